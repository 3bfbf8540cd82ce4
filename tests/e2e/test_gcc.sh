#!/bin/bash
# gcc compiles and links in WFS; the program runs there and outside.
. "$(dirname "$0")/lib.sh"

work_dir
wfs tee "$work/hello.c" >/dev/null <<-'END'
	#include <stdio.h>
	int main(void) { puts("hello"); return 0; }
END
wfs gcc -O1 -o "$work/hello" "$work/hello.c"
wfs cp "$work/hello" "$E2E_TMP/hello"
[ "$("$E2E_TMP/hello")" = hello ] || fail "copied out"
