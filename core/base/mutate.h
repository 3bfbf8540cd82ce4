/*
 * Known wrong variants of the protocol, one at a time, to prove that the simulator would
 * find them (make sim-mutations). They exist only in the simulator's own build; in all
 * others MUTATED is the constant false.
 */
#ifndef WFS_BASE_MUTATE_H
#define WFS_BASE_MUTATE_H

#define SIM_MUTATIONS(X)                                                                 \
	X(NONE)                                                                          \
	X(ACK_BEFORE_BACKUP)      /* answer when the record is durable here only */      \
	X(ACK_BEFORE_DURABLE)     /* a backup acknowledges what is not durable */        \
	X(PROMOTE_STALE)          /* who is no member may take over */                   \
	X(SKIP_EPOCH_CHECK)       /* a backup takes records of any epoch and stream */   \
	X(FORGET_REPLIES)         /* a new primary knows nothing of old answers */       \
	X(KEEP_EPOCH_AT_RESTART)  /* a restarted primary serves on in its old epoch */   \
	X(SERVE_WITHOUT_LEASE)    /* serve after the lease ran out */                    \
	X(SKIP_TAILS)             /* a new primary does not ask whether others are ahead */ \
	X(ADMIT_EARLY)            /* a learner becomes a member before it is even */     \
	X(APPLY_OUT_OF_ORDER)     /* a backup applies records as they come */            \
	X(SKIP_WIPE)              /* a copy goes over what was there */                  \
	X(SKIP_PREFIX)            /* a member that comes back may have anything */       \
	X(FORGET_INTENTS)         /* a new primary does not take up transactions */      \
	X(TAKE_OVER_EARLY)        /* no wait for the end of the lease of who is gone */  \
	X(REPLAY_OLD_REQUESTS)    /* an older request than the last is carried out */    \
	X(WIPE_TWICE)             /* a wipe that comes twice wipes twice */              \
	X(COPY_IN_HISTORY)        /* the end of a copy is taken for a record */

#define SIM_MUTATION_ENUM(name) MUTATION_##name,
enum sim_mutation { SIM_MUTATIONS(SIM_MUTATION_ENUM) MUTATION_COUNT };
#undef SIM_MUTATION_ENUM

#ifdef WFS_SIM_MUTATIONS
extern enum sim_mutation sim_mutation;
#define MUTATED(name) (sim_mutation == MUTATION_##name)
#else
#define MUTATED(name) 0
#endif

#endif
