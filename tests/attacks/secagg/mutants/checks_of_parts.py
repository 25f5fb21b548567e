"""The checks in keys, frames, numbers and parameters, each with what takes it out and the attack that gets through."""

from __future__ import annotations

from tests.attacks.secagg.mutants.mutant import of

KEYS = of(
    "keys",
    (
        "signatures are verified",
        "key.verify(signature, signed_bytes(use, params, index, content))",
        "pass",
        "replaced_keys",
    ),
    (
        "signatures bind their use",
        'b"dura secure sum 4 " + use + b"\\0" + ',
        'b"dura secure sum 4 \\0" + ',
        "a_signature_of_another_index_or_use",
    ),
    (
        "signatures bind the session",
        ' + params.session_id + index.to_bytes(2, "big") + content',
        ' + index.to_bytes(2, "big") + content',
        "older_content_under_the_new_session",
    ),
    (
        "derived keys bind the session",
        "return derive(secret, params.session_id, info)",
        "return derive(secret, bytes(32), info)",
        "masks_bind_the_session",
    ),
    (
        "derived keys bind their use",
        'info = b"dura " + use + b"\\0" + first',
        'info = b"dura " + first',
        "masks_bind_the_session",
    ),
    (
        "derived keys bind who sends to whom",
        'first.to_bytes(2, "big") + second.to_bytes(2, "big")\n    return',
        "bytes(4)\n    return",
        "masks_bind_the_session",
    ),
    (
        "keys of small order are an abort",
        'raise Abort(Reason.NOT_AUTHENTIC, "a key of a member is not usable") from error',
        "secret = bytes(32)",
        "keys_of_small_order",
    ),
    (
        "seals are authenticated",
        'raise Abort(Reason.NOT_AUTHENTIC, f"the shares from {sender} were altered") from error',
        "return content[:-16]",
        "shares_altered_or_sealed_for_somebody_else",
    ),
)

WIRE = of(
    "wire",
    (
        "a frame has a header",
        "if len(view) < HEADER or view[0] not in _TYPES or view[1:4] != _RESERVED:",
        "if view[0] not in _TYPES or view[1:4] != _RESERVED:",
        "frames_of_no_known_form",
    ),
    (
        "a frame's type is known",
        "if len(view) < HEADER or view[0] not in _TYPES or view[1:4] != _RESERVED:",
        "if len(view) < HEADER or view[1:4] != _RESERVED:",
        "frames_of_no_known_form",
    ),
    (
        "a frame's reserved bytes are zero",
        "if len(view) < HEADER or view[0] not in _TYPES or view[1:4] != _RESERVED:",
        "if len(view) < HEADER or view[0] not in _TYPES:",
        "frames_of_no_known_form",
    ),
    (
        "a list has the announced length",
        "if len(body) != INDEX + count * width or count > members:",
        "if count > members:",
        "truncated_and_oversized_frames",
    ),
    (
        "items are of distinct members in order",
        "if not last < index < members:",
        "if not index < members:",
        "unknown_and_doubled_members_in_lists",
    ),
    (
        "items are of members",
        "if not last < index < members:",
        "if not last < index:",
        "unknown_and_doubled_members_in_lists",
    ),
    (
        "fixed bodies have their length",
        "if len(body) != sum(sizes):",
        "if len(body) < sum(sizes):",
        "the_coordinator_ends_the_session",
    ),
)

RING = of(
    "ring",
    (
        "values cannot wrap upwards",
        "if values.size and (int(values.max()) > limit or int(values.min()) < -limit):",
        "if values.size and int(values.min()) < -limit:",
        "vectors_that_do_not_fit",
    ),
    (
        "values cannot wrap downwards",
        "if values.size and (int(values.max()) > limit or int(values.min()) < -limit):",
        "if values.size and int(values.max()) > limit:",
        "vectors_that_do_not_fit",
    ),
    (
        "check words hold",
        "if not np.array_equal(words[-CHECK_WORDS:], _checks(words[:-CHECK_WORDS])):",
        "if False:",
        "sums_that_are_damaged_or_of_another_length",
    ),
    (
        "values are numbers",
        "if not math.isfinite(total) and not np.isfinite(values).all():",
        "if False:",
        "vectors_that_do_not_fit",
    ),
)

_BOUND = "sites_that_were_told_different_studies"
_NUMBERS = "unsafe_numbers_make_no_session"
PARAMS = [
    *of(
        "params",
        *[
            (
                f"the session binds {name}",
                "        for field in fields(self):\n",
                f"        for field in (field for field in fields(self) if field.name != {name!r}):\n",
                _BOUND,
            )
            for name in (
                *("study", "roster", "purpose", "round", "attempt", "first_step", "steps", "state", "context"),
                *("length", "ring_bits", "members", "threshold", "minimum", "colluders"),
            )
        ],
        ("digests are digests", "if _DIGEST.fullmatch(digest) is None:", "if False:", _NUMBERS),
        ("a purpose is a word", "if _WORD.fullmatch(self.purpose) is None:", "if False:", _NUMBERS),
        (
            "names are distinct and sorted",
            "if list(self.names) != sorted(set(self.names)):",
            "if False:",
            "one_hospital_under_two_names",
        ),
        (
            "identities are distinct",
            "if len(set(identities)) != len(identities) or ",
            "if ",
            "one_hospital_under_two_names",
        ),
        ("numbers have bounds", "if not low <= getattr(self, name) <= high:", "if False:", _NUMBERS),
        ("a ring has 32 or 64 bits", "if self.ring_bits not in {32, 64}:", "if False:", _NUMBERS),
        ("a sum has two members", "if not MIN_MEMBERS <= count <= MAX_MEMBERS:", "if False:", _NUMBERS),
        (
            "two do not collude",
            "not 0 <= self.colluders <= count - MIN_MEMBERS or ",
            "not 0 <= self.colluders < count or ",
            "minimum_and_colluders_count_too",
        ),
        (
            "the minimum is two",
            " or not MIN_MEMBERS <= self.minimum <= count:",
            ":",
            _NUMBERS,
        ),
        ("a step sum needs everybody", "if self.threshold != count:", "if False:", _NUMBERS),
        (
            "2 t > n + c",
            "elif not (2 * self.threshold > count + self.colluders and self.threshold <= count):",
            "elif not self.threshold <= count:",
            _NUMBERS,
        ),
        (
            "the threshold can be reached",
            "elif not (2 * self.threshold > count + self.colluders and self.threshold <= count):",
            "elif not 2 * self.threshold > count + self.colluders:",
            _NUMBERS,
        ),
        ("a round sum opens one sum", "elif self.steps != 1:", "elif False:", _NUMBERS),
        (
            "the minimum counts beside the threshold",
            "return max(self.threshold, self.minimum, self.colluders + MIN_MEMBERS)",
            "return max(self.threshold, self.colluders + MIN_MEMBERS)",
            "minimum_and_colluders_count_too",
        ),
        (
            "encodings have a heading",
            "if next(parts) != HEADING:",
            "if next(parts) is None:",
            "strange_encodings_of_parameters",
        ),
        ("encodings are canonical", "if params.encode() != content:", "if False:", "strange_encodings_of_parameters"),
        (
            "cut encodings are a ValueError",
            "except (StopIteration, UnicodeDecodeError) as error:",
            "except UnicodeDecodeError as error:",
            "strange_encodings_of_parameters",
        ),
        ("parts are whole", "if len(part) != size:", "if False:", "strange_encodings_of_parameters"),
        (
            "members are counted before they are read",
            "if count > MAX_MEMBERS:",
            "if False:",
            "strange_encodings_of_parameters",
        ),
    )
]
