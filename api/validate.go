package api

func Validate(o Object) error    { return nil }
func Warnings(o Object) []string { return nil }
func Default(o Object)           {}
