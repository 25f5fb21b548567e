"""The rules of whole studies, each with what takes it out. Where two places hold a rule, both are taken out."""

from __future__ import annotations

from tests.attacks.draws.whole.mutant import Edit, Mutant

LEDGER, BOOK, CHECKS = "dura_client.ledger.ledger", "dura_client.ledger.book", "dura_client.ledger.checks"
PAID, STANDING, GATE = "dura_client.release.paid", "dura_client.release.standing", "dura_client.release.gate"
FROZEN, COHORT = "dura_client.patients.frozen", "dura_client.patients.cohort"
WITNESS = "dura_client.consortium.witness"

_COMPUTE = "        if self._pace is None:\n            return self._work.compute(begun.withdrawn)"
_KEPT = 'globals().setdefault("_KEPT", {})'
_PLACE = "(str(self._standing._home), self._study, self._purpose, self._round, step)"
_ASKS_AGAIN = Edit(STANDING, "        if now != self._marks:", "        if False:")

MUTANTS = (
    Mutant(
        "a study that has ended draws no more",
        (
            Edit(BOOK, "return found[-1] if found and found[-1].open else None", "return found[-1] if found else None"),
            Edit(CHECKS, " or self._ended.get(study) == row.attempt:", ":"),
        ),
    ),
    Mutant(
        "a study that was declined ends in the middle of a request",
        (
            _ASKS_AGAIN,
            Edit(
                LEDGER,
                "            found = book.open_allocation(study)\n            if found is None or",
                "            found = book.studies[study][-1]\n            if found is None or",
            ),
            Edit(CHECKS, " or self._ended.get(study) == row.attempt:", ":"),
        ),
        story=(("decide", "decline", "north", "shared", True),),
    ),
    Mutant("a policy and a distrust act in the middle of a request", (_ASKS_AGAIN,)),
    Mutant(
        "a vector leaves once",
        (Edit(PAID, _COMPUTE, _COMPUTE.replace("return ", f"return {_KEPT}.setdefault({_PLACE}, ") + ")"),),
    ),
    Mutant(
        "a draw that is repeated is paid for",
        (
            Edit(
                LEDGER,
                "            writer.add(row)\n            withdrawn =",
                "            if name == purpose:\n                writer.add(row)\n            withdrawn =",
            ),
        ),
    ),
    Mutant(
        "no more spare draws than were declared",
        (
            Edit(LEDGER, "len(extra.begun) >= extra.draws", "len(extra.begun) > extra.draws"),
            Edit(CHECKS, "not 1 <= number <= block[1]", "not 1 <= number <= block[1] + 1"),
        ),
    ),
    Mutant(
        "a block that has begun does not come back",
        (Edit(BOOK, "if self.open or block.begun)", "if self.open)"),),
    ),
    Mutant(
        "a study is charged at its own delta",
        (
            Edit(
                "dura_common.privacy.plan",
                "calibrate_training(privacy.epsilon, privacy.delta,",
                "calibrate_training(privacy.epsilon, 1e-3,",
            ),
            Edit("dura_client.review.review", "fits = fits and own <= declared and", "fits = fits and"),
        ),
        approved=True,
    ),
    Mutant(
        "newcomers are in no study that was approved before them",
        (
            Edit(
                FROZEN,
                "        sides.append(side)",
                "        if not held_out:\n"
                "            from dura_client.patients.cohort import prepare_here\n"
                "            everybody = prepare_here(home, contract, manifest.dataset).patients\n"
                "            new = [one for one in everybody if one.key not in found]\n"
                "            side.update({one.key: TrainingPatient(one.windows, one.labels) for one in new})\n"
                "        sides.append(side)",
            ),
        ),
    ),
    Mutant(
        "recordings that have changed since the approval count zero",
        (Edit("dura_client.data.prepare", "return found if digest_of(found) == digest else None", "return found"),),
    ),
    Mutant(
        "a withdrawal acts from the next draw on",
        (
            Edit(
                PAID,
                _COMPUTE,
                _COMPUTE.replace("begun.withdrawn", 'self.__dict__.setdefault("_early", begun.withdrawn)'),
            ),
        ),
    ),
    Mutant(
        "no answer depends on one patient's recordings",
        (
            Edit(
                FROZEN,
                "                side[key] = nobody\n",
                '                raise DuraError("a patient is missing")\n',
            ),
        ),
    ),
    Mutant(
        "a quorum countersigns a roster",
        (Edit("dura_common.consortium.chain", "    if len(said) < needed:", "    if len(said) < needed - 1:"),),
    ),
    Mutant(
        "numbers of requests only grow",
        (
            Edit(LEDGER, "            if number <= highest:", "            if number < 1:"),
            Edit(CHECKS, "        if (row.attempt or 0) <= self._attempts.get(key, 0):", "        if False:"),
        ),
    ),
    Mutant(
        "a ledger that went back meets nobody who knows it",
        (
            Edit(WITNESS, "    if head.ledger.rows < before.rows:", "    if False:"),
            Edit(
                WITNESS,
                "    if head.ledger.rows == before.rows and head.ledger.mark != before.reports[-1].mark:",
                "    if False:",
            ),
            Edit(STANDING, "        if unknown:", "        if False:"),
        ),
    ),
    Mutant(
        "what was seen of a member is kept until it has confirmed it",
        (Edit(WITNESS, "tuple(one for one in before.reports if one.rows > confirmed)", "()"),),
        story=(("backup", "north"), ("restore", "north", "shared"), ("believed", "alone", 1)),
    ),
    Mutant(
        "a sum has as many sites as its study demands",
        (
            Edit(
                "dura_common.sums.agreed",
                "        if len(names) < self.study.aggregation.minimum_sites:",
                "        if False:",
            ),
            Edit("dura_common.sums.agreed", "            minimum=rules.minimum_sites,", "            minimum=2,"),
        ),
    ),
)
