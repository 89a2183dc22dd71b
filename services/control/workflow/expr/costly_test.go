//go:build !race

package expr

import "maps"

// These take seconds under the race detector, and are as good without it.
func init() {
	maps.Copy(hostile, map[string]string{
		"nested to_json":          nest("to_json(@)", "input.text + '\"'", 60),
		"escapes of to_json":      "to_json(lists.range(400).map(x, input.text.replace('x', '\\u0001')))",
		"texts of all sizes":      "lists.range(100000).map(x, " + big + " + string(x))",
		"hashes of much":          "lists.range(1000).map(x, sha256(" + big + "))",
		"a tree of maps":          chain("{'a': 1}", "{'a': @, 'b': @}", "to_json(@)", 60),
		"a tree, walked":          chain("[1]", "[@, @]", "@.flatten(100)", 60),
		"a tree by map":           chain("[1]", "[1, 2].map(x, @)", "@ == @", 60),
		"a long join":             "lists.range(100000).map(x, input.text).join('')",
		"texts of any type":       "lists.range(100000).map(x, dyn(input.text) + dyn(string(x))).size()",
		"walk in walk in walk":    "lists.range(100000).map(x, lists.range(100000).map(y, lists.range(100000)))",
		"flatten of the same":     "cel.bind(l, lists.range(50000), l.map(x, l)).flatten()",
		"sort of many":            "lists.range(100000).reverse().sort().size()",
		"a list in a list":        "lists.range(100000).exists(x, (x + 100000) in lists.range(100000))",
		"growing by a pattern":    nest("regex.replace(@, 'x', '\\\\0\\\\0\\\\0\\\\0')", "input.text", 12),
		"all of an empty pattern": "regex.extractAll(" + big + ", '').size()",
		"JSON of many values":     "parse_json('[' + lists.range(100000).map(x, '{\"a\":[[],[]]}').join(',') + ']')",
		"lower of much":           big + ".upper().lower().trim().slug().size()",
		"a map with many keys":    "lists.range(100000).transformMapEntry(i, v, {string(v): input.text}).size()",
		"substring of much":       "lists.range(100000).map(x, " + big + ".substring(x)).size()",
	})
}
