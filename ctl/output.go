package main

import "io"

// output is a writer that remembers that something could not be written, so that nobody takes a part for the whole.
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
