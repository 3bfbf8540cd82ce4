/* Between part.c (transactions) and step.c (what the steps do). Internal to meta/. */
#ifndef WFS_META_STEP_H
#define WFS_META_STEP_H

#include "meta/meta_impl.h"

/* Whether every step is well formed and of the part's bucket. */
bool part_valid(const struct part *part);
/* Run all steps within w; the caller ends the work. */
int part_run(struct work *w, const struct meta_call *c, const struct part *part,
	ino_id *new_ino_out, bool *purge_out);
/* The inodes that the part changes (and so locks), save one that it makes. */
uint32_t part_inodes(const struct part *part, ino_id inos_out[TXN_STEPS_MAX]);

#endif
