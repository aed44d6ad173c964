//go:build never

// Package kubernetes names what is built.
package kubernetes

import _ "k8s.io/kubernetes/cmd/kube-apiserver"
