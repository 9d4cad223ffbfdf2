package file

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// YAML is read as nodes, not into structs: so errors know their lines, and quote nothing of
// files that hold secrets; and the tags that Python writes do not matter.

// yamlError is what is wrong in a line.
type yamlError struct {
	line int
	err  error
}

var errUnknownKey = errors.New("unknown key")

// yamlDocument returns the root of the one document that a text holds.
func yamlDocument(text []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var document, more yaml.Node
	switch err := decoder.Decode(&document); {
	case errors.Is(err, io.EOF):
		return nil, errors.New("it is empty")
	case err != nil && strings.Contains(err.Error(), "anchor"): // the only error that quotes the text
		return nil, errors.New("it is no YAML: an alias names no anchor")
	case err != nil:
		return nil, fmt.Errorf("it is no YAML: %s", strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := decoder.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, errors.New("it is more than one YAML document")
	}
	return yamlTarget(document.Content[0]), nil
}

// yamlTarget follows an alias.
func yamlTarget(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// plainKey is a key that can be shown: a URL in the wrong place is none.
var plainKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]{0,31}$`)

// yamlFields calls field for each pair of a map, until it fails. What says what the map is.
func yamlFields(n *yaml.Node, what string, field func(key string, value *yaml.Node) error) *yamlError {
	if n.Kind != yaml.MappingNode {
		return &yamlError{n.Line, fmt.Errorf("%s is a map", what)}
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := yamlTarget(n.Content[i])
		err := field(key.Value, yamlTarget(n.Content[i+1]))
		if err == nil && seen[key.Value] {
			err = errors.New("repeated key")
		}
		if err != nil {
			if plainKey.MatchString(key.Value) {
				err = fmt.Errorf("%w %q", err, key.Value)
			}
			return &yamlError{key.Line, err}
		}
		seen[key.Value] = true
	}
	return nil
}

// yamlField returns the value of a key of a map, or nil if that has none or is no map.
func yamlField(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if yamlTarget(n.Content[i]).Value == key {
			return yamlTarget(n.Content[i+1])
		}
	}
	return nil
}

// yamlString returns the text of a scalar, whatever type YAML would give it, or "" for anything
// else, null among it. Python's byte strings are in base64.
func yamlString(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" {
		return ""
	}
	if n.ShortTag() == "!!binary" {
		b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(n.Value), ""))
		if err != nil {
			return ""
		}
		return string(b)
	}
	return n.Value
}

// yamlStrings returns the texts of a list, or of a set, whose members are the keys of a map.
func yamlStrings(n *yaml.Node) (texts []string) {
	if n == nil {
		return nil
	}
	step := 1
	switch n.Kind {
	case yaml.MappingNode:
		step = 2
	case yaml.SequenceNode:
	default:
		return nil
	}
	for i := 0; i < len(n.Content); i += step {
		texts = append(texts, yamlString(yamlTarget(n.Content[i])))
	}
	return texts
}
