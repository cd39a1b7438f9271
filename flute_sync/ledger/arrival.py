"""Instances of one study that arrive: which are new, which are known, which contradict."""

from collections import Counter
from dataclasses import dataclass, field

from flute_sync.intake import Received
from flute_sync.ledger import instances
from flute_sync.ledger.driver import Driver
from flute_sync.ledger.instances import Held
from flute_sync.ledger.places import Kind, Place, Places, kind_of
from flute_sync.ledger.precedence import Precedence
from flute_sync.ledger.rows import StudyRow
from flute_sync.task import State


@dataclass(slots=True)
class Arrival:
    """Collects what arrives of one study in one transaction.

    Known instances are changed only in what says who holds them and since when; their header,
    number and series stay as they are, unless the first archive to be believed tells of them, or
    no archive can be asked.
    """

    driver: Driver
    study: StudyRow
    places: Places
    precedence: Precedence
    replaced: Counter[int] = field(default_factory=Counter)
    """How many known instances have other values now, by the archive, which cannot be asked."""
    _stored: dict[bytes, Held] = field(default_factory=dict)
    _new: dict[bytes, Held] = field(default_factory=dict)
    _changed: dict[bytes, Held] = field(default_factory=dict)
    _places: dict[Kind, Place] = field(default_factory=dict)

    def look_up(self, uids: list[bytes]) -> None:
        """Find which of the instances are known; by packed UID."""
        if not self.study.is_new:
            self._stored = instances.known(self.driver, self.study.id, uids)

    def take(
        self, received: list[Received], uids: list[bytes], archive: int, *, final: bool = False
    ) -> tuple[int, int]:
        """Take instances that one archive holds; return how many are facts and contradictions.

        Parameters
        ----------
        final
            Nobody can say which of two headers is right: the later one is.
        """
        facts = contradictions = 0
        bit = 1 << (archive - 1)
        study_id, generation = self.study.id, self.study.next_generation
        stored, new, places = self._stored, self._new, self._places
        for item, uid in zip(received, uids, strict=True):
            held = stored.get(uid) or new.get(uid)
            if held is not None:
                is_fact, is_contradiction = self._again(held, item, archive, final=final)
                facts += is_fact
                contradictions += is_contradiction
                continue
            series, header = places.get(kind_of(item)) or self._make_place(item)
            number = item.instance.number
            new[uid] = Held(study_id, uid, series, header, number, generation, bit)
            facts += 1
        return facts, contradictions

    def _make_place(self, item: Received) -> Place:
        place = self._places[kind_of(item)] = self.places.make(self.study, item)
        return place

    def _again(self, held: Held, item: Received, archive: int, *, final: bool) -> tuple[bool, bool]:
        """Take an instance whose UID is known; return whether it is a fact, a contradiction."""
        bit = 1 << (archive - 1)
        place = self.places.find(self.study, item)
        if place != (held.series, held.header) or held.number != item.instance.number:
            before = self.precedence.before(archive)
            is_own = bool(held.archives & bit) and not held.archives & before
            if is_own and not final:
                self._touch(held, bit)
                return False, True
            if not held.archives & before:  # only archives hold it that are believed less
                series, header = self.places.make(self.study, item)
                if series != held.series:
                    self._touch(held, bit)
                    return True, True
                held = held._replace(header=header, number=item.instance.number)
                if is_own:
                    self._touch(held, bit)
                    self.replaced[archive] += 1
                    return True, False
        if not held.archives & bit:
            self._touch(held, bit)
            return True, False
        if self.study.state is State.IN_PROGRESS and held.generation < self.study.next_generation:
            # A read that is under way may have begun before this arrived: it must not remove it.
            self._touch(held, bit)
        return False, False

    def _touch(self, held: Held, bit: int) -> None:
        uid = held.sop_instance_uid
        touched = held._replace(archives=held.archives | bit, generation=self.study.next_generation)
        if uid in self._new:
            self._new[uid] = touched
        else:
            self._stored[uid] = self._changed[uid] = touched

    def write(self) -> None:
        """Write what is new or changed; series and headers are written."""
        instances.add(self.driver, self._new.values())
        instances.change(self.driver, self._changed.values())

    @property
    def new_count(self) -> int:
        """How many instances the study did not have."""
        return len(self._new)
