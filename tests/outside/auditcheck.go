// Checks an audit log with an implementation of transparency logs that is not ours: Go's
// golang.org/x/mod/sumdb/note and sumdb/tlog.
//
//	auditcheck verify DIR          the log matches its checkpoint
//	auditcheck proof DIR FILE      a proof by `rowarden audit prove` holds
//	auditcheck mutate DIR COUNT    COUNT logs, each with one change, are all refused
//
// Reads plain segments and, through zstd(1), compressed ones.
package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

func fail(format string, args ...any) {
	fmt.Printf(format+"\n", args...)
	os.Exit(1)
}

func must[T any](value T, err error) T {
	if err != nil {
		fail("%v", err)
	}
	return value
}

// hashes keeps the stored hashes of a tree in memory.
type hashes []tlog.Hash

func (h hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	found := make([]tlog.Hash, len(indexes))
	for at, index := range indexes {
		if index >= int64(len(h)) {
			return nil, fmt.Errorf("no hash %d", index)
		}
		found[at] = h[index]
	}
	return found, nil
}

func treeOf(lines [][]byte) hashes {
	var stored hashes
	for number, line := range lines {
		stored = append(stored, must(tlog.StoredHashes(int64(number), line, stored))...)
	}
	return stored
}

// checkpoint is a C2SP tlog-checkpoint.
type checkpoint struct {
	size int64
	root tlog.Hash
}

func openCheckpoint(verifier note.Verifier, text []byte) checkpoint {
	opened := must(note.Open(text, note.VerifierList(verifier)))
	lines := strings.Split(opened.Text, "\n")
	if len(lines) < 3 || lines[0] != verifier.Name() {
		fail("this is not a checkpoint of %s", verifier.Name())
	}
	var root tlog.Hash
	copy(root[:], must(base64.StdEncoding.DecodeString(lines[2])))
	return checkpoint{must(strconv.ParseInt(lines[1], 10, 64)), root}
}

func readLog(dir string) []byte {
	var log []byte
	files := append(must(filepath.Glob(dir+"/audit-*.jsonl")), must(filepath.Glob(dir+"/audit-*.jsonl.zst"))...)
	sort.Strings(files)
	for _, file := range files {
		if strings.HasSuffix(file, ".zst") {
			log = append(log, must(exec.Command("zstd", "-dcq", file).Output())...)
		} else {
			log = append(log, must(os.ReadFile(file))...)
		}
	}
	return log
}

func linesOf(log []byte) [][]byte {
	lines := bytes.Split(log, []byte("\n"))
	return lines[:len(lines)-1]
}

// matches says whether the first lines of a log are those that were signed for, and whether every
// line, signed for or not yet, has the number of its place.
func (c checkpoint) matches(log []byte) bool {
	lines := linesOf(log)
	if int64(len(lines)) < c.size {
		return false
	}
	for number, line := range lines {
		if !bytes.HasPrefix(line, []byte(fmt.Sprintf(`{"v":1,"seq":%d,`, number))) {
			return false
		}
	}
	root, err := tlog.TreeHash(c.size, treeOf(lines[:c.size]))
	return err == nil && root == c.root
}

func checkProof(verifier note.Verifier, dir string, text []byte) {
	head, signed, _ := strings.Cut(string(text), "\n\n")
	lines := strings.Split(head, "\n")
	line := must(base64.StdEncoding.DecodeString(strings.TrimPrefix(lines[1], "extra ")))
	index := must(strconv.ParseInt(strings.TrimPrefix(lines[2], "index "), 10, 64))
	var proof tlog.RecordProof
	for _, encoded := range lines[3:] {
		var hash tlog.Hash
		copy(hash[:], must(base64.StdEncoding.DecodeString(encoded)))
		proof = append(proof, hash)
	}
	signedFor := openCheckpoint(verifier, []byte(signed))
	if err := tlog.CheckRecord(proof, signedFor.size, signedFor.root, index, tlog.RecordHash(line)); err != nil {
		fail("%v", err)
	}
	if !bytes.Equal(line, linesOf(readLog(dir))[index]) {
		fail("the proof is of another line")
	}
	fmt.Printf("line %d of %d is proved\n", index, signedFor.size)
}

// change makes one change to a log: a byte, a line removed, two swapped, one put in twice, or the
// end cut off before the checkpoint.
func change(random *rand.Rand, log []byte, size int64) (string, []byte) {
	lines := linesOf(log)
	at := random.Intn(int(size))
	switch random.Intn(5) {
	case 0:
		end := len(bytes.Join(lines[:size], []byte("\n")))
		changed := append([]byte(nil), log...)
		changed[random.Intn(end)] ^= byte(1 + random.Intn(255))
		return "byte", changed
	case 1:
		lines = append(append([][]byte(nil), lines[:at]...), lines[at+1:]...)
		return "removed", join(lines)
	case 2:
		other := random.Intn(int(size))
		lines = append([][]byte(nil), lines...)
		if bytes.Equal(lines[at], lines[other]) {
			other = (at + 1) % int(size)
		}
		lines[at], lines[other] = lines[other], lines[at]
		return "swapped", join(lines)
	case 3:
		doubled := append(append([][]byte(nil), lines[:at+1]...), lines[at:]...)
		return "doubled", join(doubled)
	default:
		return "truncated", join(lines[:at])
	}
}

func join(lines [][]byte) []byte {
	if len(lines) == 0 {
		return nil
	}
	return append(bytes.Join(lines, []byte("\n")), '\n')
}

func main() {
	if len(os.Args) < 3 {
		fail("usage: auditcheck verify DIR | proof DIR FILE | mutate DIR COUNT")
	}
	dir := os.Args[2]
	key := strings.TrimSpace(string(must(os.ReadFile(dir + "/checkpoint.pub"))))
	verifier := must(note.NewVerifier(key))
	signedFor := openCheckpoint(verifier, must(os.ReadFile(dir+"/checkpoint")))
	switch os.Args[1] {
	case "verify":
		if !signedFor.matches(readLog(dir)) {
			fail("the log does not match its checkpoint")
		}
		fmt.Printf("%d lines match\n", signedFor.size)
	case "proof":
		checkProof(verifier, dir, must(os.ReadFile(os.Args[3])))
	case "mutate":
		count := must(strconv.Atoi(os.Args[3]))
		log, random, refused := readLog(dir), rand.New(rand.NewSource(1)), map[string]int{}
		if !signedFor.matches(log) {
			fail("the log does not match before it is changed")
		}
		for number := 0; number < count; number++ {
			kind, changed := change(random, log, signedFor.size)
			if signedFor.matches(changed) {
				fail("change %d (%s) was not noticed", number, kind)
			}
			refused[kind]++
		}
		fmt.Printf("%d of %d changes are refused: %v\n", count, count, refused)
	}
}
