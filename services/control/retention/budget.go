package retention

// Budget is what a transaction may still do.
type Budget struct{ Rows, Bytes int }

// NewBudget allows limit rows and MaxBytes.
func NewBudget(limit int) Budget { return Budget{Rows: limit, Bytes: MaxBytes} }

// Spent reports whether the transaction has to end.
func (b *Budget) Spent() bool { return b.Rows <= 0 || b.Bytes <= 0 }

// Spend counts one row.
func (b *Budget) Spend(bytes int) {
	b.Rows--
	b.Bytes -= bytes
}
