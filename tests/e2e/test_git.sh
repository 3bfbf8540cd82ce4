#!/bin/bash
# git works: init, add, commit, branch, merge, gc, fsck, clone.
. "$(dirname "$0")/lib.sh"

work_dir
wfs sh -e -c '
	export HOME='"$work"' GIT_CONFIG_NOSYSTEM=1
	cd '"$work"' && git init -q -b main repo && cd repo
	git config user.name t && git config user.email t@localhost
	for i in 1 2 3 4 5; do echo $i >f$i; done
	git add . && git commit -qm one
	git checkout -q -b side && echo side >f1 && git commit -qam side
	git checkout -q main && echo main >f2 && git commit -qam main
	git merge -q -m merge side
	git gc -q && git fsck --full --strict
	[ "$(cat f1 f2)" = "side
main" ] && [ -z "$(git status --porcelain)" ]
	cd .. && git clone -q repo clone && diff -r --exclude=.git repo clone
'
