//go:build never

// Package bigtable names what is built.
package bigtable

import _ "cloud.google.com/go/bigtable/cmd/emulator"
