package decode

// WaitMetadata waits until the metadata cache has taken what it was given.
func (c *Client) WaitMetadata() { c.metadata.files.Wait() }
