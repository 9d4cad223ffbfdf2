package file

// Parse parses the text of the grid file of that name.
var Parse = parse

// ImportText imports what a node knows whose one cache and whose servers.yaml both hold the text.
func ImportText(text []byte) ([]Server, error) {
	root, err := yamlDocument(text)
	if err != nil {
		return nil, err
	}
	n := node{announced: map[string]announcement{}}
	err = n.addCache(root)
	n.addStatic(root)
	servers, _ := n.servers()
	return servers, err
}
