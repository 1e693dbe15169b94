package calc

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/margay-project/margay/api"
)

// parameterValue reads a text as a value of a field's type.
func parameterValue(of reflect.Type, text string, unit time.Duration) (reflect.Value, error) {
	if of.Kind() == reflect.Pointer {
		inner, err := parameterValue(of.Elem(), text, unit)
		if err != nil {
			return inner, err
		}
		v := reflect.New(of.Elem())
		v.Elem().Set(inner)
		return v, nil
	}
	v := reflect.New(of).Elem()
	none := strings.EqualFold(text, "none")
	switch {
	case none && of.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(of, 0, 0))
		return v, nil
	case none && of.Kind() == reflect.Map:
		v.Set(reflect.MakeMap(of))
		return v, nil
	case none:
		return v, nil
	}
	parsed, err := parseParameter(v.Interface(), text, unit)
	if err == nil {
		v.Set(reflect.ValueOf(parsed))
	}
	return v, err
}

// parseParameter reads a text as a value of the type of like.
func parseParameter(like any, text string, unit time.Duration) (any, error) {
	switch like.(type) {
	case nil, string:
		return text, nil
	case bool:
		return parseSwitch(text)
	case int:
		n, err := strconv.ParseInt(text, 0, 0)
		return int(n), plainNumber(err)
	case int64:
		n, err := strconv.ParseInt(text, 0, 64)
		return n, plainNumber(err)
	case api.Duration:
		return parseSeconds(text, unit)
	case api.Port:
		return api.ParsePort(text)
	case api.DSCP:
		return api.ParseDSCP(text), nil
	case []string:
		return list(text, func(s string) (string, error) { return s, nil })
	case []api.Port:
		return list(text, api.ParsePort)
	case []api.ProtoPort:
		return list(text, parseProtoPort)
	case api.RouteTableRange:
		return parseTables(text)
	case []api.RouteTableRange:
		return list(text, parseTables)
	case []api.HealthTimeoutOverride:
		return list(text, parseTimeout)
	case map[string]string:
		return pairs(text)
	}
	return nil, errors.New("it can be set in FelixConfiguration only")
}

// list reads texts that are separated by commas. An empty list must be written as none.
func list[T any](text string, parse func(string) (T, error)) ([]T, error) {
	all := []T{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		one, err := parse(part)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	if len(all) == 0 {
		return nil, errors.New("write none for nothing")
	}
	return all, nil
}

// pairs reads NAME=VALUE texts that are separated by commas.
func pairs(text string) (map[string]string, error) {
	all := map[string]string{}
	_, err := list(text, func(entry string) (string, error) {
		name, value, ok := strings.Cut(entry, "=")
		if !ok {
			return "", fmt.Errorf("%q: want NAME=VALUE", entry)
		}
		all[strings.TrimSpace(name)] = strings.TrimSpace(value)
		return "", nil
	})
	return all, err
}

func parseTimeout(text string) (o api.HealthTimeoutOverride, err error) {
	name, value, _ := strings.Cut(text, "=")
	o.Name = name
	o.Timeout, err = parseSeconds(value, time.Second)
	return o, err
}

func plainNumber(err error) error {
	if err != nil {
		return errors.New("want a number")
	}
	return nil
}

func parseSwitch(text string) (bool, error) {
	switch strings.ToLower(text) {
	case "true", "1", "yes", "y", "t":
		return true, nil
	case "false", "0", "no", "n", "f":
		return false, nil
	}
	return false, errors.New("want true or false")
}

// parseSeconds reads a plain number, counted in units, or a duration such as 90s.
func parseSeconds(text string, unit time.Duration) (api.Duration, error) {
	if n, err := strconv.ParseFloat(text, 64); err == nil {
		return api.Duration{Duration: time.Duration(n * float64(unit))}, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return api.Duration{}, errors.New("want a number of seconds, or a duration like 90s or 50ms")
	}
	return api.Duration{Duration: d}, nil
}

// parseProtoPort reads PORT, PROTOCOL:PORT or PROTOCOL:NET:PORT, an IPv6 net in brackets.
func parseProtoPort(text string) (p api.ProtoPort, err error) {
	wrong := fmt.Errorf("%q: want PROTOCOL:PORT or PROTOCOL:NET:PORT, such as tcp:22 or udp:[fd00::/64]:68", text)
	protocol, rest, given := strings.Cut(text, ":")
	if !given {
		protocol, rest = "tcp", text
	}
	net, port := "", rest
	if at := strings.LastIndex(rest, ":"); at >= 0 {
		net, port = rest[:at], rest[at+1:]
		net = strings.TrimSuffix(strings.TrimPrefix(net, "["), "]")
		if _, err := api.ParseNet(net); err != nil {
			return p, wrong
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return p, wrong
	}
	return api.ProtoPort{Protocol: strings.ToLower(protocol), Net: net, Port: uint16(n)}, nil
}

func parseTables(text string) (r api.RouteTableRange, err error) {
	low, high, _ := strings.Cut(text, "-")
	first, e1 := strconv.Atoi(low)
	last, e2 := strconv.Atoi(high)
	if e1 != nil || e2 != nil {
		return r, fmt.Errorf("%q: want FIRST-LAST", text)
	}
	return api.RouteTableRange{Min: first, Max: last}, nil
}
