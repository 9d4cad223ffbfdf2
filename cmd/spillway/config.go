package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"gopkg.in/yaml.v3"
)

// fileConfig is a configuration file: flags by name, for whichever commands have them.
type fileConfig map[string]any

// loadConfig reads a configuration file.
func loadConfig(r io.Reader) (kong.Resolver, error) {
	c := fileConfig{}
	if err := yaml.NewDecoder(r).Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the configuration file is no YAML map of flags: %w", err)
	}
	return c, nil
}

// Validate refuses names that no command knows: a misspelt limit must not be
// taken for the default.
func (c fileConfig) Validate(app *kong.Application) error {
	known := map[string]bool{}
	err := kong.Visit(app, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			known[flag.Name] = true
		}
		return next(nil)
	})
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(c)) {
		if !known[name] {
			return fmt.Errorf("the configuration file sets %q, which no command has as a flag", name)
		}
	}
	return nil
}

// Resolve gives way to the environment, which kong has already read.
func (c fileConfig) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, name := range flag.Envs {
		if _, set := os.LookupEnv(name); set {
			return nil, nil
		}
	}
	value, set := c[flag.Name]
	if !set {
		return nil, nil
	}
	switch value := value.(type) {
	case []any: // a list of servers
		texts := make([]string, len(value))
		for i, v := range value {
			texts[i] = fmt.Sprint(v)
		}
		return strings.Join(texts, " "), nil // as the flag separates them
	case map[string]any, nil:
		return nil, fmt.Errorf("the configuration file has no plain value for it")
	}
	return fmt.Sprint(value), nil
}
