package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/margay-project/margay/api"
	"github.com/margay-project/margay/ctl/hints"
)

// scope holds the flags -n and -A: the namespaces in which namespaced objects are looked for.
type scope struct {
	namespace string
	all       bool
}

// resolve sets the namespace of an object from the object and the flags, which must agree. With -A it is empty.
func (s scope) resolve(o api.Object) error {
	kind, _ := api.KindOf(o.Type().Kind)
	meta := o.Meta()
	if !kind.Namespaced {
		switch {
		case meta.Namespace != "":
			return fmt.Errorf("namespace should not be specified for a non-namespaced resource. %s is not a namespaced resource", kind.Name)
		case s.all || s.namespace != "":
			return fmt.Errorf("%s is not namespaced", kind.Name)
		}
		return nil
	}
	switch {
	case s.all && s.namespace != "":
		return errors.New("cannot use both --namespace and --all-namespaces flags at the same time")
	case s.all:
		meta.Namespace = ""
	case meta.Namespace == "" && s.namespace == "":
		meta.Namespace = "default"
	case meta.Namespace == "":
		meta.Namespace = s.namespace
	case s.namespace != "" && meta.Namespace != s.namespace:
		return fmt.Errorf("resource namespace does not match client namespace. %s != %s", meta.Namespace, s.namespace)
	}
	return nil
}

// named returns an empty object of a kind for each name. Without names, it returns one object without a name, which stands
// for the list of the kind.
func (s scope) named(kindName string, names []string) ([]api.Object, error) {
	kind, ok := api.KindOf(kindName)
	if !ok {
		return nil, unknownKind(kindName)
	}
	var objects []api.Object
	for _, name := range names {
		if name == "" {
			return nil, errors.New("resource name may not be empty")
		}
		o := kind.New()
		o.Meta().Name = name
		objects = append(objects, o)
	}
	if len(names) == 0 {
		objects = append(objects, kind.New())
	}
	return objects, nil
}

func unknownKind(name string) error {
	err := fmt.Errorf("resource type '%s' is not supported", name)
	if foreign, ok := api.ForeignKindOf(name); ok {
		return hints.With(err, "Margay does not support "+foreign.Name+" objects, and leaves those in the datastore unchanged: use calicoctl for them")
	}
	return hints.With(err, hints.DidYouMean(name, kindWords()))
}

// kindWords returns the words that users may type for kinds.
func kindWords() []string {
	var words []string
	for _, k := range api.Kinds() {
		words = append(words, strings.ToLower(k.Name), k.Plural)
		words = append(words, k.Aliases...)
	}
	return words
}
