package decode

// WithLayout returns options that force the version of the shares' layout.
func (o PutOptions) WithLayout(version int) PutOptions {
	o.layout = version
	return o
}

// WaitMetadata waits until the metadata cache has taken what it was given.
func (c *Client) WaitMetadata() { c.metadata.files.Wait() }
