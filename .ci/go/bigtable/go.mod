module kfp-lifecycle/bigtable

go 1.26.0

require cloud.google.com/go/bigtable v1.58.0
