/* How ESIS submits: intent, call, answer; look-up, adoption, grace; lock and take-over; the fence in the job.
 * One task, two commands at a time, one controller. README.md says which part stands for which function of ESIS. */

/* How often something may go wrong, to be changed with -D. */
#ifndef LOSSES
#define LOSSES 2        /* sbatch gets no answer */
#endif
#ifndef CRASHES
#define CRASHES 1       /* the controller forgets what it hasn't saved */
#endif
#ifndef REQUEUES
#define REQUEUES 1      /* a task is queued again before its end was recorded */
#endif
#ifndef KILLS
#define KILLS 1         /* a command is killed, at any point */
#endif
#ifndef TAKEOVERS
#define TAKEOVERS 1     /* a command is held up, taken over, and goes on when it likes */
#endif
#ifndef FAILS
#define FAILS 255       /* squeue doesn't answer; 255: as often as it likes */
#endif
#ifndef FAILURES
#define FAILURES 0      /* the work of a task fails */
#endif
#ifndef STRANGERS
#define STRANGERS 1     /* jobs of somebody else */
#endif
#ifndef CANCELS
#define CANCELS 0       /* esis cancel */
#endif
#ifndef LATE
#define LATE 0          /* a call reaches Slurm when the grace period is over */
#endif
#define NUMBERS 6       /* submissions, more than ever are made */
#define JOBS 4          /* jobs in the queue at one time */
#define FAIL fails > 0 -> fails = (fails == 255 -> 255 : fails - 1)
#define ME (_pid + 1)
#define OTHER (2 - _pid)
#define DEAD 3
#define bit(i) (1 << (i))

mtype:record = { NONE, OPEN, SENT };                            /* of a submission */
mtype:ending = { RUNNING, DONE, FAILED, CANCELLED };            /* of a task */
mtype:state = { FREE, PENDING, CLAIMED, WORK, WORKED, ENDED };
mtype:verdict = { LOST, ACTIVE, COMPLETE };

/* On disk. */
byte lock;              /* 0, ME, OTHER or DEAD */
mtype:record out[NUMBERS] = NONE;
byte job[NUMBERS], seen[NUMBERS], claim[NUMBERS], recjob[NUMBERS], later;
mtype:ending rec[NUMBERS];
/* Slurm: calls in flight, answers, calls whose caller waits no more, the queue. */
byte call[2], reply[2];
chan death = [0] of { bit };
chan stray = [LOSSES + KILLS + 1] of { byte };
typedef Job { mtype:state st = FREE; byte id, number; bool saved };
Job q[JOBS];
byte ids = 1, saved_ids = 1;
/* What may still go wrong. */
byte losses = LOSSES, crashes = CRASHES, requeues = REQUEUES, takeovers = TAKEOVERS, fails = FAILS,
    failures = FAILURES, strangers = STRANGERS, cancels = CANCELS, late = LATE;
/* For the properties alone: which wish of the user's a number is to fulfil, who has worked for it. */
byte wishes, wish[NUMBERS], fulfilled[NUMBERS], did[NUMBERS], queued[NUMBERS], working;
bool worked, overtaken[2], excused;

#define ALIVE(j) (q[j].st != FREE && q[j].st != ENDED)
#ifdef BY_ID
#define OURS(j) (q[j].id == job[n])
#else
#define OURS(j) (q[j].number != 0)
#endif
#ifdef NO_FENCE
#define FENCE true
#else
#define FENCE false
#endif
#ifdef STRICT
#define EXCUSED false
#else
#define EXCUSED excused
#endif
#ifdef NO_LOCK
#define HELD true
#else
#define HELD (lock == ME)
#endif

#define RESET told = LOST; last = false; sent = false; n = 0; id = 0; known = 0; i = 0

inline latest() { for (i : 1 .. NUMBERS - 1) { if :: out[i] != NONE -> n = i :: else fi }; i = 0 }

inline look_up() {      /* id: the job of submission n */
    id = claim[n]; known = seen[n];
    for (i : 1 .. NUMBERS - 1) { known = known | bit(job[i]) }
    if :: id == 0 && rec[n] == CANCELLED -> id = recjob[n] :: else fi;
    for (i : 0 .. JOBS - 1) {
        if
        :: claim[n] == 0 && q[i].st != FREE && q[i].number != 0 && !(known & bit(q[i].id)) &&
            (id == 0 || q[i].id < id) ->
            id = q[i].id
        :: else
        fi
    }
    known = 0; i = 0
}

inline look() {         /* told: the verdict on the task, n its latest submission; known: the ids that squeue shows */
    told = LOST; known = 0;
    for (i : 0 .. JOBS - 1) {
        if
        :: q[i].st == FREE || !OURS(i)
        :: else ->
            known = known | bit(q[i].id);
            if
            :: ALIVE(i) || (q[i].id == job[n] && rec[n] == 0) -> told = ACTIVE       /* or unknown */
            :: else ->
                if
                :: told == LOST && q[i].id == job[n] && rec[n] == RUNNING && recjob[n] == job[n] -> told = COMPLETE
                :: else
                fi
            fi
        fi
    }
    if :: told == LOST && rec[n] == DONE -> told = COMPLETE :: else fi;
    i = 0
}

active [2] proctype Command() {
    byte n, id, i, known;
    bool last, sent;
    mtype:verdict told = LOST;
    do
    :: {
        atomic {
            if
#ifdef NO_LOCK
            :: lock >= 0
#else
            :: lock == 0 -> lock = ME
#ifndef DEAD_LOCK
            :: lock == DEAD -> lock = ME
#endif
            :: lock == OTHER && takeovers > 0 -> takeovers--; overtaken[OTHER - 1] = true; lock = ME
#endif
            fi;
            d_step { latest() };
            if :: n > 0 && out[n] == OPEN -> goto lookup :: else fi
        };

judge:  atomic {
            if
#ifdef ABSENT_IS_FAILED
            :: d_step { FAIL; told = (rec[n] == DONE -> COMPLETE : LOST) }
#else
            :: d_step { FAIL }; goto stop
#endif
            :: d_step { true -> look() }
            fi;
            if
            :: told == COMPLETE -> assert(worked); goto over            /* done only if the work was done */
            :: told == ACTIVE || !HELD -> goto stop
            :: told == LOST && HELD
            fi;
            d_step { n++; assert(n < NUMBERS); wishes++; wish[n] = wishes; seen[n] = known; known = 0; job[n] = 0 };
#ifndef INTENT_LATE
            out[n] = OPEN
#endif
        };

send:   if :: !HELD -> goto stop :: else fi;
        d_step { call[ME - 1] = n; sent = true; if :: overtaken[ME - 1] -> excused = true :: else fi };
#ifdef INTENT_LATE
        if :: !HELD -> goto stop :: d_step { HELD -> out[n] = OPEN } fi;
#endif
        if
        :: atomic { reply[ME - 1] != 0 -> id = reply[ME - 1]; reply[ME - 1] = 0; goto record }
        :: d_step { losses > 0 -> losses--; reply[ME - 1] = 0;
            if :: call[ME - 1] != 0 -> stray!call[ME - 1]; call[ME - 1] = 0 :: else fi }
        fi;

lookup: atomic {
            if
#ifdef ABSENT_IS_FAILED
            :: d_step { FAIL; id = 0 }
#else
            :: d_step { FAIL }; goto stop
#endif
            :: d_step { true -> look_up() };
                if
                :: id != 0 -> goto record
#ifdef NO_GRACE
                :: else
#else
                :: id == 0 && len(stray) + call[0] + call[1] == 0
                :: id == 0 && len(stray) + call[0] + call[1] != 0 -> goto lookup
                :: id == 0 && len(stray) + call[0] + call[1] != 0 && late > 0 -> late--; excused = true
#endif
                fi
            fi;
            if :: last || !HELD -> goto stop :: else -> last = true fi;
#ifdef NEW_NUMBER
            d_step { out[n] = SENT; n++; out[n] = OPEN; seen[n] = seen[n - 1]; wish[n] = wish[n - 1] };
#endif
            goto send
        };

record: atomic {
            if :: !HELD -> goto stop :: else fi;
            d_step {
#ifdef CLAIM_EARLY
                if :: claim[n] == 0 -> claim[n] = id :: else fi;
#endif
                out[n] = SENT; job[n] = id; id = 0; seen[n] = 0 };
            if :: sent :: else -> goto judge fi
        };

stop:   atomic { if :: lock == ME -> lock = 0 :: else fi; overtaken[ME - 1] = false; RESET }
      } unless { atomic { death?_ ->                      /* what it has sent may still come */
        d_step { reply[ME - 1] = 0; overtaken[ME - 1] = false;
            if :: lock == ME -> lock = DEAD :: else fi;
            if :: call[ME - 1] != 0 -> stray!call[ME - 1]; call[ME - 1] = 0 :: else fi;
            RESET } } }
    od;
over:
    atomic { if :: lock == ME -> lock = 0 :: else fi; RESET }
}

inline accept(number_) {
    for (i : 0 .. JOBS - 1) { if :: q[i].st == FREE -> break :: else fi };
    q[i].st = PENDING; q[i].id = ids; q[i].number = number_; i = 0;
    for (i : 1 .. NUMBERS - 1) { excused = excused || (number_ != 0 && job[i] == ids) };
    ids++; i = 0;
    if :: number_ != 0 -> queued[number_]++ :: else fi;
    assert(number_ == 0 || queued[number_] == 1 || excused)     /* a submission isn't sent twice, see README.md */
}

inline forget(j) {
    if :: q[j].st == WORK -> working-- :: else fi;
    if :: q[j].number != 0 -> queued[q[j].number]-- :: else fi;
    q[j].st = FREE; q[j].id = 0; q[j].number = 0; q[j].saved = false
}

#define ROOM (q[0].st == FREE || q[1].st == FREE || q[2].st == FREE || q[3].st == FREE)

inline crash() {
    crashes--; ids = saved_ids; saved_ids = 0;
    for (i : 0 .. JOBS - 1) { if :: q[i].st != FREE && !q[i].saved -> forget(i) :: else -> q[i].saved = false fi };
    i = 0
}

active proctype Controller() {
    byte i, n;
end: do
    :: d_step { ROOM && call[0] != 0 -> n = call[0]; call[0] = 0; reply[0] = ids; accept(n); n = 0 }
    :: d_step { ROOM && call[1] != 0 -> n = call[1]; call[1] = 0; reply[1] = ids; accept(n); n = 0 }
    :: d_step { ROOM && len(stray) > 0 -> stray?n; accept(n); n = 0 }
    :: d_step { len(stray) > 0 -> stray?n; n = 0 }                              /* it never came */
    :: d_step { crashes > 0 && saved_ids != ids -> saved_ids = ids;
        for (i : 0 .. JOBS - 1) { q[i].saved = (q[i].st != FREE) }; i = 0 }
    :: d_step { crashes > 0 -> crash() }
    :: d_step { crashes > 0 && strangers > 0 -> crash(); strangers--; accept(0) }       /* it gets a forgotten id */
    od
}

active [JOBS] proctype Task() {
#define j (_pid - 3)
#define n (q[j].number)
end: do
    :: d_step { q[j].st == PENDING && n == 0 -> q[j].st = ENDED }
    :: d_step { q[j].st == PENDING && n != 0 ->
        if :: claim[n] == 0 -> claim[n] = q[j].id :: else fi;
        q[j].st = (FENCE || claim[n] == q[j].id -> CLAIMED : ENDED) }
    :: d_step { q[j].st == CLAIMED && later > n -> q[j].st = ENDED }
    :: d_step { q[j].st == CLAIMED && later <= n ->
        rec[n] = RUNNING; recjob[n] = q[j].id; later = (n > 1 -> n : later); q[j].st = WORK;
        working++;
        assert(working == 1 || EXCUSED);                        /* never two at a time, see README.md */
        if :: did[n] == 0 -> did[n] = q[j].id :: else fi;
        if :: fulfilled[wish[n]] == 0 -> fulfilled[wish[n]] = n :: else fi;
        assert(did[n] == q[j].id && fulfilled[wish[n]] == n) }  /* one job for a number, one number for a wish */
    :: d_step { q[j].st == WORK -> q[j].st = WORKED; working--; worked = true }
    :: d_step { q[j].st == WORK && failures > 0 -> failures--; q[j].st = ENDED; working--; rec[n] = FAILED }
    :: d_step { q[j].st == WORKED -> q[j].st = ENDED; rec[n] = DONE }
    :: d_step { requeues > 0 && n != 0 && ALIVE(j) && q[j].st != PENDING -> requeues--;
        if :: q[j].st == WORK -> working-- :: else fi; q[j].st = PENDING }
    :: d_step { cancels > 0 && n != 0 && q[j].st == PENDING -> cancels--;
        if :: rec[n] == 0 -> rec[n] = CANCELLED; recjob[n] = q[j].id :: else fi; forget(j) }
    :: d_step { q[j].st == ENDED -> q[j].st = FREE; q[j].id = 0; q[j].number = 0; q[j].saved = false }
    od
}

active proctype Death() {
    byte i;
    do
    :: i < KILLS -> i++;
end:    death!0
    :: else -> break
    od
}
