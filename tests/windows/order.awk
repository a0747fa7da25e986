# Reads what `strace -f -y` has seen. Succeeds if every write to FILE was behind a flush when the fence
# returned (which the first call on MARK shows), and again at the end.
#
#   awk -v FILE=/take.wav -v MARK=/fenced -f order.awk calls
#
# A flush covers the writes that had ended when it began; it counts when it has ended well. Calls of
# several threads overlap: one that is cut in two (`unfinished`, `resumed`) begins and ends there.

function begins(call) {
  if (call ~ /write/) under_way++
  else covers[$1] = ended
}

function ends(call, answer) {
  sub(/.*= /, "", answer)
  if (call ~ /write/) {
    under_way--
    ended++
  } else if (answer == 0) {
    flushes++
    if (covers[$1] > flushed) flushed = covers[$1]
  }
}

function look(when) {
  if (under_way || !ended || flushed < ended) {
    printf "%s: %d writes have ended, %d are under way, %d are behind a flush\n", when, ended, under_way, flushed
    wrong = 1
  }
}

$2 == "<..." && ($1 in cut) {
  ends(cut[$1], $0)
  delete cut[$1]
  next
}

index($0, MARK ">") && !fences++ { look("when the fence returns") }

index($0, FILE ">") && match($2, /^(pwrite64|write|fsync|fdatasync)\(/) {
  call = substr($2, 1, RLENGTH - 1)
  begins(call)
  if ($0 ~ /<unfinished \.\.\.>$/) cut[$1] = call
  else ends(call, $0)
}

END {
  look("at the end")
  if (!fences) print "the fence never returned"
  if (!wrong && fences) printf "%d writes, %d flushes, in the right order\n", ended, flushes
  exit wrong || !fences
}
