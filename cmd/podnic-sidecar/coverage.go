//go:build coverage

package main

import "github.com/podnic/podnic/test/coverage"

func init() { coverage.Started() }
