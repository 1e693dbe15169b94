package api

func Warnings(o Object) []string { return nil }
