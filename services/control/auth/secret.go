package auth

import (
	"crypto/rand"
	"hash/crc32"
	"math/big"
	"strings"
)

// A secret is pawl_LETTER_BODY_CHECKSUM, so that scanners find one that leaked, and a typing error is told apart from a
// token that does not exist. The body is 256 random bits and the checksum the CRC-32 (IEEE) of all before it, both in
// base 62.
const (
	secretPrefix = "pawl_"
	bodyLen      = 43
	checksumLen  = 6
	secretLen    = len(secretPrefix) + 2 + bodyLen + 1 + checksumLen
	// ticket is the letter of tickets, see Service.Ticket.
	ticket = 't'
)

// letters are those of the kinds of principals.
var letters = map[Kind]byte{Operator: 'o', Client: 'c', Executor: 'e', Peer: 'p'}

// newSecret makes a secret.
func newSecret(letter byte) string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return secretOf(letter, b)
}

// secretOf is the secret that says these bits.
func secretOf(letter byte, bits [32]byte) string {
	s := secretPrefix + string(letter) + "_" + base62(new(big.Int).SetBytes(bits[:]), bodyLen)
	return s + "_" + checksum(s)
}

func checksum(s string) string {
	return base62(new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(s)))), checksumLen)
}

func base62(n *big.Int, width int) string {
	s := n.Text(62)
	return strings.Repeat("0", width-len(s)) + s
}

// formOf is the letter of a secret. It fails with ErrUnauthenticated for what has not the form of one.
func formOf(secret string) (letter byte, err error) {
	switch {
	case secret == "":
		return 0, ErrUnauthenticated
	case !strings.HasPrefix(secret, secretPrefix):
		return 0, ErrUnauthenticated.With("that is no token: tokens begin with %s", secretPrefix)
	}
	body := len(secret) - checksumLen - 1
	if len(secret) != secretLen || secret[body:] != "_"+checksum(secret[:body]) {
		return 0, ErrUnauthenticated.With("this token is not whole: a character of it is wrong or missing; copy it " +
			"again")
	}
	return secret[len(secretPrefix)], nil
}
