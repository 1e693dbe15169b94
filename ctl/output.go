package main

import "io"

// output is a writer that remembers its first error. run reports it, so that nobody takes an output that was cut off for complete.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if o.err == nil {
		o.err = err
	}
	return n, err
}
