"""The part of scripts/bit-flips that flips bits while the server is stopped.

Each round stores and deletes blobs, ends the server (cleanly and by kill -9 in turn), flips bits
of headers, footers, checkpoint, superblock and the file of the scrub, and starts it again. What
must hold then is what docs/format.md says under "What recovery decides":

- One bit in one copy of a thing that has several costs nothing: every blob is served right, and
  what was deleted is 404. So do flips in several copies while one is sound: in both headers of a
  segment and not in its trailer, in the footer and one header.
- Flips in both blocks of the superblock: the start is refused, says why, and works again when the
  file is as it was.
- Flips in all copies of a segment's header: the start names the file and keeps it. What lies there
  alone is missing, deletions too; nothing else is. It is all there again when one copy is.

Every flip must be in the log, by the start or by the next pass of the scrub, or its file must
have gone, as that of a damaged segment does.
"""

import http.client
import os

from on_disk import (
    BLOCK,
    KIND_BLOB,
    KIND_TOMBSTONE,
    RECORD_MAX,
    SUPERBLOCK_BYTES,
    checkpoint_bytes,
    plant,
    refusal,
    segments,
)

CHANGES = 24
"""Blobs that are stored, and others that are deleted, before each stop."""
ONE = [("header 1",), ("header 2",), ("trailer",), ("entries",)]
SEVERAL = [
    ("header 1", "header 2"),
    ("header 1", "trailer"),
    ("header 2", "trailer"),
    ("header 1", "entries"),
    ("header 1", "header 2", "entries"),
]
"""Parts of a sealed segment that may all be damaged: one copy of the header is sound."""
ONE_SUPERBLOCK = "one block of the superblock"
BOTH_SUPERBLOCKS = "both blocks of the superblock"
NO_HEADER = "every header of a segment"
SPECIAL = [ONE_SUPERBLOCK, BOTH_SUPERBLOCKS, NO_HEADER]
EVERY_HEADER = ("header 1", "header 2", "trailer")
HEADER_COPY = "a copy of a segment's header is damaged: another one is used"
HEADER_LOST = "the header of a segment can't be read"
SCANNED = "a segment that was open at the last stop was scanned"
CHECKPOINT_REFUSED = "the checkpoint can't be used: every footer is read instead"
SCRUB_REFUSED = "the file of the scrub can't be used: the scrub starts over"


class BetweenStarts:
    def __init__(self, store, rng, touched):
        self.store, self.server, self.rng = store, store.server, rng
        self.data = store.server.data
        self.touched = set(touched)
        """Segments that had a flip: a second one could take what the first left."""
        self.failures = []
        self.found = self.gone = self.starts = self.refusals = self.round = 0
        self.missing = self.back = 0
        """Answers while a segment could not be read: 404s of what lies there, and blobs whose
        deletion does."""

    def path(self, name):
        return os.path.join(self.data, name)

    def identity(self, name):
        """Which file has this name now."""
        path = self.path(name)
        return os.stat(path).st_ino if os.path.exists(path) else None

    def fail(self, text):
        self.failures.append(f"start {self.round}: {text}")

    def run(self, flips, per_start):
        """Returns when this many flips were found, or something failed."""
        self.connect()
        while self.found < flips and not self.failures and not self.store.wrong:
            self.one_round(per_start)
            self.round += 1

    def connect(self):
        # The one before ended with the server.
        address = "127.0.0.1", self.server.port
        self.connection = http.client.HTTPConnection(*address, timeout=60)

    def one_round(self, per_start):
        is_kill = self.round % 2 == 1
        special = SPECIAL[self.round // 2 % len(SPECIAL)]
        self.change()
        self.end(is_kill)
        self.store.events()
        self.flips, self.must_say, self.hidden = [], [], None
        self.damage(special, per_start)
        if special == BOTH_SUPERBLOCKS:
            self.expect_refusal()
        if not self.start():
            return
        if self.hidden:
            self.check_while_hidden()
            self.end(is_kill)
            self.mend_hidden()
            if not self.start():
                return
        self.check_all()
        self.store.full_pass()
        self.account()
        print(
            f"start {self.round} after {'kill -9' if is_kill else 'a clean stop'}, with {special}: "
            f"{self.found} found, {self.gone} gone before, {len(self.store.blobs)} blobs, "
            f"{len(self.store.deleted)} deleted",
            flush=True,
        )

    def change(self):
        """Deletes some blobs between storing others, so that deletions lie in many segments."""
        for _ in range(CHANGES):
            self.store.put_next(self.connection)
            self.store.delete(self.connection, self.rng.choice(list(self.store.blobs)))

    def end(self, is_kill):
        if is_kill:
            self.server.kill()
        else:
            self.server.stop()

    def damage(self, special, count):
        """Flips this many bits or a few more: what the round is about first, then others."""
        # The newest first: there deletions lie, and what no checkpoint covers.
        fresh = [segment for segment in segments(self.data) if segment.name not in self.touched]
        fresh.reverse()
        if special == ONE_SUPERBLOCK:
            self.flip_beside("store", range(2 * BLOCK))
        elif special == BOTH_SUPERBLOCKS:
            for start in (0, BLOCK):
                self.flip_beside("store", range(start, start + SUPERBLOCK_BYTES))
        elif special == NO_HEADER:
            self.hide_one(fresh)
        if os.path.exists(self.path("checkpoint")):
            # With a checkpoint the start reads nothing of the sealed segments that it covers.
            must = self.hidden is not None and self.hidden.is_sealed
            if must or self.rng.random() < 0.6:
                self.flip_beside("checkpoint", checkpoint_bytes(self.path("checkpoint")))
                self.must_say.append((CHECKPOINT_REFUSED, ""))
        if os.path.exists(self.path("scrub")) and self.rng.random() < 0.3:
            self.flip_beside("scrub", range(os.path.getsize(self.path("scrub"))))
            self.must_say.append((SCRUB_REFUSED, ""))
        unsealed = [segment for segment in fresh if not segment.is_sealed]
        sealed = [segment for segment in fresh if segment.is_sealed]
        newest, older = sealed[: count // 2], sealed[count // 2 :]
        for segment in unsealed + newest + self.rng.sample(older, min(count, len(older))):
            if len(self.flips) < count and segment is not self.hidden:
                self.damage_segment(segment)

    def hide_one(self, fresh):
        """Damages every header of one segment."""
        # One with deletions, since they are missing too, and after a kill one without a trailer.
        fresh = sorted(fresh, key=lambda segment: segment.is_sealed)
        having = [segment for segment in fresh if segment.ids(KIND_TOMBSTONE)]
        self.hidden = (having + fresh)[0]
        self.hidden_blobs = self.hidden.ids(KIND_BLOB)
        self.hidden_deletions = self.hidden.ids(KIND_TOMBSTONE)
        self.must_say.append((HEADER_LOST, self.hidden.name))
        every = [part for part in EVERY_HEADER if part in self.hidden.parts]
        self.flip_parts(self.hidden, every)

    def damage_segment(self, segment):
        """Damages some parts of a segment, and leaves one copy of its header sound."""
        if segment.is_sealed:
            parts = self.rng.choice(self.rng.choice((ONE, ONE, SEVERAL)))
        else:
            parts = self.rng.choice(ONE[:2])
        self.flip_parts(segment, parts, self.rng.random() < 0.25)
        is_read = not segment.is_sealed or self.has_no_checkpoint()
        headers = [used for part, used in segment.parts.items() if part in ("header 1", "header 2")]
        for flip in self.flips:
            is_hit = flip.path == segment.path and any(flip.offset in used for used in headers)
            if is_read and is_hit:
                self.must_say.append((HEADER_COPY, segment.name))

    def has_no_checkpoint(self):
        """That can be used."""
        path = self.path("checkpoint")
        return not os.path.exists(path) or any(flip.path == path for flip in self.flips)

    def flip_parts(self, segment, parts, also_padding=False):
        self.touched.add(segment.name)
        for part in parts:
            whole = also_padding and len(parts) == 1
            offsets = segment.with_padding(part) if whole else segment.parts[part]
            self.flips.append(plant(segment.path, offsets, self.rng))

    def flip_beside(self, name, offsets):
        self.flips.append(plant(self.path(name), offsets, self.rng))

    def expect_refusal(self):
        """With no sound superblock the start is refused and says why; mended, it is not."""
        with open(self.path("store"), "rb") as file:
            text = refusal(file.read())
        self.server.spawn()
        if self.server.serves():
            self.fail("the server serves although no superblock is sound")
            self.server.kill()
        elif self.server.process.poll() != 1 or text not in self.server.last_line():
            self.fail(
                f"a start without a sound superblock should end with code 1 and say {text!r}: code "
                f"{self.server.process.poll()}, {self.server.last_line()!r}"
            )
        self.refusals += 1
        of_superblock = [flip for flip in self.flips if flip.path == self.path("store")]
        for flip in of_superblock:
            flip.apply()
            # The refusal is what had to be found.
            self.flips.remove(flip)
            self.found += 1

    def start(self):
        """False when the server does not serve."""
        self.server.spawn()
        if not self.server.serves():
            self.fail(f"the server does not start: {self.server.last_line()!r}")
            return False
        self.starts += 1
        self.connect()
        return True

    def check_all(self):
        """Nothing is lost, nothing that was deleted is back."""
        for seed, digest in self.store.blobs.items():
            answer = self.store.answer(self.connection, seed)
            if answer != "right":
                self.fail(f"blob {seed} ({digest[:32]}): {answer}")
        for seed, digest in self.store.deleted.items():
            answer = self.store.answer(self.connection, seed)
            if answer != "404":
                self.fail(f"blob {seed} ({digest[:32]}), which was deleted: {answer}")

    def check_while_hidden(self):
        """Of a segment without any header only what lies there is missing."""
        for seed, digest in self.store.blobs.items():
            answer, blob = self.store.answer(self.connection, seed), digest[:32]
            # Of a large one a piece may lie there, and its record elsewhere.
            may_lack_piece = self.store.size(seed) > RECORD_MAX
            if answer == "404" and blob in self.hidden_blobs:
                self.missing += 1
            elif answer != "right" and not (answer.startswith("refused") and may_lack_piece):
                self.fail(f"blob {seed} ({blob}): {answer}, and {self.hidden.name} can't be read")
        for seed, digest in self.store.deleted.items():
            answer, blob = self.store.answer(self.connection, seed), digest[:32]
            if answer == "404":
                continue
            is_right = answer == "right" or answer.startswith("refused")
            if is_right and blob in self.hidden_deletions:
                # Of a large one pieces may have gone already.
                self.back += 1
            else:
                self.fail(
                    f"blob {seed} ({blob}), which was deleted: {answer}, and {self.hidden.name} "
                    "can't be read"
                )
        self.checkpoint_then = self.identity("checkpoint")
        if self.store.metric("nabu_store_incomplete") != 1:
            self.fail(f"{self.hidden.name} can't be read, and the store says that it is complete")

    def mend_hidden(self):
        """Makes the headers of the hidden segment sound again; its file must not have changed."""
        if self.identity("checkpoint") != self.checkpoint_then:
            self.fail(f"a checkpoint was written while {self.hidden.name} could not be read")
        if not os.path.exists(self.hidden.path):
            self.fail(f"{self.hidden.name} could not be read, and is not there any more")
            return
        for flip in (flip for flip in self.flips if flip.path == self.hidden.path):
            flip.apply()

    def account(self):
        """Every flip is in the log, or its file has gone."""
        events = self.store.events()
        for text, name in self.must_say:
            if not any(text in event.get("message", "") and name in str(event) for event in events):
                self.fail(f"the log does not say {text!r} {name}")
        named = self.store.names_in(events)
        says = [event.get("message") for event in events]
        named.update({"checkpoint"} if CHECKPOINT_REFUSED in says else ())
        named.update({"scrub"} if SCRUB_REFUSED in says else ())
        # A footer that fails is no error to a start: the segment is scanned and gets another.
        scanned = {event["segment"] for event in events if event.get("message") == SCANNED}
        for flip in self.flips:
            name = os.path.basename(flip.path).removesuffix(".seg")
            is_of_footer = not flip.is_beside and flip.offset >= 2 * BLOCK
            if name in named or (is_of_footer and name in scanned):
                self.found += 1
            elif os.path.exists(flip.path):
                self.fail(f"{flip} was not found")
            else:
                self.gone += 1
