# Makes orders, one a line: number, pieces, cents of a piece. Each hundredth has no pieces, which is an error.
BEGIN {
	for (i = 1; i <= n; i++) {
		print i "," (i % 100 ? i % 7 + 1 : 0) "," 100 + i % 13 * 25
	}
}
