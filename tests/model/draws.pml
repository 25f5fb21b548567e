/* Draws, attempts and restarts of one round of one study, with a coordinator that may do anything.
 *
 * SITES hospitals take part in STEPS secure sums with SPARE spare draws. The coordinator is not written down as a
 * process: whatever it could say is offered to the sites as a free choice (which attempt, which members, which first
 * step, what it claims was opened, when a session ends), and it opens every sum that it has all vectors for, told or
 * untold. A site may crash and restart at any moment, and close the study at any moment.
 *
 * What is kept on disk: begin rows (train_begun, spare_begun), the highest attempt, whether the study is closed.
 * What a crash loses: the session, its keys, a vector that was drawn and not sent.
 * A site's own doings between two messages are one atomic step with every outcome (it crashes before the begin row,
 * after it, or sends), since nobody else sees or changes that state in between.
 *
 * Left out: the arithmetic of masks and noise (tests/attacks), more sites, rounds and purposes than here, time.
 *
 * Taken out one at a time, each rule is missed by an assertion:
 *   -DRESEND       a vector that was sent may be sent again in a later session
 *   -DNO_BEGIN     begin rows are not durable
 *   -DANY_ATTEMPT  attempts need not grow
 *   -DLATE_BEGIN   a draw may begin after the study was closed
 *   -DFEW          a site accepts fewer members than the study demands
 */
#ifndef SITES
#define SITES 3
#endif
#ifndef STEPS
#define STEPS 2
#endif
#ifndef SPARE
#define SPARE 1
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 3
#endif
#define MINIMUM 2
#ifdef FEW
#define ENOUGH(n) true
#else
#define ENOUGH(n) ((n) >= MINIMUM)
#endif
#ifdef ANY_ATTEMPT
#define NEWER(a) true
#else
#define NEWER(a) ((a) > highest[_pid])
#endif
#define DRAWS (STEPS + SPARE)
#define EVERYBODY ((1 << SITES) - 1)
#define SENT(i, a, t) sent[((i) * (ATTEMPTS + 1) + (a)) * (STEPS + 1) + (t)]
#define VIEW(i, a) view[(i) * (ATTEMPTS + 1) + (a)]
#define OPENED(a, t) opened[(a) * (STEPS + 1) + (t)]

/* Durable state of each site. */
byte train_begun[SITES];   /* a bit for each step */
byte spare_begun[SITES];
byte highest[SITES];
bool closed[SITES];
bool train_returned[SITES];
bool spare_returned[SITES];

/* What the coordinator holds: which vector (its number plus one) a site sent in an attempt at a step, for whom. */
byte sent[SITES * (ATTEMPTS + 1) * (STEPS + 1)];
byte view[SITES * (ATTEMPTS + 1)];
bool opened[(ATTEMPTS + 1) * (STEPS + 1)];

/* Ghosts: what the promises are about. */
byte drawn[SITES];         /* vectors drawn so far; the next one has this number */
byte used[SITES];          /* a bit for each vector that is in an opened sum */

inline count_members(members, n) {
  n = 0;
  if :: members & 1 -> n++ :: else fi;
  if :: members & 2 -> n++ :: else fi;
  if :: members & 4 -> n++ :: else fi
}

/* The coordinator opens every sum that has become complete; it can do so at once, since waiting shows it no more. */
inline open_sums(a, t) {
  members = VIEW(_pid, a);
  complete = true;
  j = 0;
  do
  :: j < SITES ->
     if
     :: ((members >> j) & 1) && (VIEW(j, a) != members || SENT(j, a, t) == 0) -> complete = false
     :: else
     fi;
     j++
  :: else -> break
  od;
  if
  :: complete ->
     assert(!OPENED(a, t)); /* one name, one sum */
     OPENED(a, t) = true;
     count_members(members, n);
     assert(n >= MINIMUM); /* no sum of fewer sites */
     j = 0;
     do
     :: j < SITES ->
        if
        :: (members >> j) & 1 ->
           assert(((used[j] >> SENT(j, a, t)) & 1) == 0); /* each vector in at most one opened sum */
           used[j] = used[j] | (1 << SENT(j, a, t))
        :: else
        fi;
        j++
     :: else -> break
     od
  :: else
  fi
}

/* A vector is needed for this attempt and step: a begin row first, or nothing; then it leaves, or a crash takes it. */
inline draw(a, t) {
  vector = 0;
  if
#ifdef RESEND
  :: kept > 0 && kept_step == t -> vector = kept /* what was sent goes out again */
#endif
#ifndef LATE_BEGIN
  :: closed[_pid] -> skip
#endif
  :: else ->
     if
     :: ((train_begun[_pid] >> t) & 1) == 0 ->
        assert(!train_returned[_pid]); /* a block that came back pays for nothing */
        train_begun[_pid] = train_begun[_pid] | (1 << t);
        drawn[_pid]++;
        vector = drawn[_pid]
     :: ((train_begun[_pid] >> t) & 1) && spare_begun[_pid] < SPARE ->
        assert(!spare_returned[_pid]);
        spare_begun[_pid]++;
        drawn[_pid]++;
        vector = drawn[_pid]
     :: else -> skip /* given up: nothing is left to pay with */
     fi
  fi;
  if
  :: vector > 0 ->
     assert(drawn[_pid] <= DRAWS); /* no more draws than the study declared and the patients paid for */
     SENT(_pid, a, t) = vector;
#ifdef RESEND
     kept = vector;
     kept_step = t;
#endif
     open_sums(a, t)
  :: vector > 0 -> /* a crash, or the end of the session, takes it */
#ifdef NO_BEGIN
     train_begun[_pid] = 0;
     spare_begun[_pid] = 0;
#endif
     skip
  :: else
  fi;
  vector = 0; n = 0; j = 0; members = 0; complete = false
}

active [SITES] proctype site() {
  byte attempt = 0;  /* of the session; 0: none */
  byte step = 0;     /* of the last vector that the session needed */
  byte a, n, j, members, vector;
  bool complete;
#ifdef RESEND
  byte kept = 0, kept_step = 0;
#endif

  do
  /* A request: any attempt, any members that hold this site, any first step. What went before is over. */
  :: atomic {
       select(a : 1 .. ATTEMPTS);
       select(members : 1 .. EVERYBODY);
       count_members(members, n);
       if
       :: ((members >> _pid) & 1) && ENOUGH(n) && NEWER(a) ->
          if :: a > highest[_pid] -> highest[_pid] = a :: else fi;
          attempt = a;
          VIEW(_pid, a) = members;
          j = 1;
          do :: j <= STEPS -> SENT(_pid, a, j) = 0; j++ :: else -> break od; /* other keys than before */
          select(step : 1 .. STEPS);
          a = 0; n = 0; j = 0; members = 0;
          draw(attempt, step)
       :: else -> a = 0; n = 0; members = 0
       fi
     }
  /* The coordinator tells an opened sum, and the next step follows. (After a sum that it made up, the keys of the
     session's next masks differ between the sites, so no later sum of that session opens: such a lie shows less.) */
  :: atomic {
       attempt > 0 && step < STEPS && OPENED(attempt, step) ->
       step++;
       draw(attempt, step)
     }
  /* The study is closed here: blocks without a begin come back. One site is enough, nobody asks for its state. */
  :: atomic {
       !closed[_pid] && _pid == 0 ->
       closed[_pid] = true;
       train_returned[_pid] = (train_begun[_pid] == 0);
       spare_returned[_pid] = (spare_begun[_pid] == 0)
     }
  od
}
