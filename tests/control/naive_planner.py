"""The planner once more, naively: vehicles as objects, columns by name,
every plan worked out in full, nothing cut short.

It is what `headway.control.planner` must decide, from the network and the observation themselves,
without its tables. A column is ("group", g), or ("inside", g) for those who wait within the
junction.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from headway.roads.stages import compatible_stages

PERMISSIVE, GREEN = 3, 4


@dataclass
class Car:
    eta: float
    column: object
    still: bool = False
    weight: float = 1.0
    closed: int = 0
    inside: bool = False
    before: float = 0.0


@dataclass
class Scene:
    """lanes: the vehicles of each, nearest first.
    yields: pairs (who gives way, to whom) of columns. m: the figures.
    barred, due: by column, until when it may not begin (again), and when it should have begun.
    lit: the columns that are green now.
    """

    lanes: list
    yields: set
    m: object
    barred: dict = field(default_factory=dict)
    due: dict = field(default_factory=dict)
    lit: set = field(default_factory=set)

    def kept_back(self, opens, begin):
        """The columns of a stage that it would begin before they may."""
        return {
            c: until
            for c, until in self.barred.items()
            if (opens.get(c) is not None or c not in self.lit)
            and until > max(begin, opens.get(c) if opens.get(c) is not None else begin)
        }

    def nobody_gone(self):
        return [(0, -100.0)] * len(self.lanes)


def helped(car, level):
    """A light of this level lets the vehicle go."""
    return {GREEN: car.closed <= 1, PERMISSIVE: car.closed == 0}.get(level, False)


def price(car, at, m):
    wait = at - car.eta
    return car.weight * (wait if car.still else wait + min(wait, m.stop_cost_s))


def earliest(car, last, begin, opens, m):
    first = max(car.eta, last + m.headway_s, begin)
    return (
        first if opens.get(car.column) is None else max(first, opens[car.column] + m.startup_loss_s)
    )


def run(scene, state, lights, begin, end, opens):
    """(cost, state) after a stage from begin to end."""
    opens = opens | scene.kept_back(opens, begin)
    for lane, (gone, _) in zip(scene.lanes, state, strict=True):
        for car in lane[gone:]:
            if lights[car.column] < PERMISSIVE or car.eta > end:
                break
            if lights[car.column] == PERMISSIVE:
                return run_together(scene, state, lights, begin, end, opens)
    cost, after = 0.0, []
    for lane, (gone, last) in zip(scene.lanes, state, strict=True):
        for car in lane[gone:]:
            at = earliest(car, last, begin, opens, scene.m)
            if not helped(car, lights[car.column]) or at > end + scene.m.end_gain_s:
                break
            cost, gone, last = cost + price(car, at, scene.m), gone + 1, at
        after.append((gone, last))
    return cost, after


def run_together(scene, state, lights, begin, end, opens):
    m, cost = scene.m, 0.0
    gone, last = [g for g, _ in state], [t for _, t in state]
    before = list(gone)
    # by lane: when its first may try again; who waits inside, and when it tries again
    put_off = {}
    waits = {}

    def first_time(k):
        if k in put_off:
            return put_off[k]
        if gone[k] < len(scene.lanes[k]) and helped(
            scene.lanes[k][gone[k]], lights[scene.lanes[k][gone[k]].column]
        ):
            return earliest(scene.lanes[k][gone[k]], last[k], begin, opens, m)
        return math.inf

    def free_at(car, lane, now):
        free = -math.inf
        for k, others in enumerate(scene.lanes):
            if k == lane:
                continue
            if gone[k] < len(others):
                other = others[gone[k]]
                if (car.column, other.column) in scene.yields and lights[other.column] == GREEN:
                    if other.closed >= 2:
                        return math.inf
                    if first_time(k) < now + car.before:
                        free = max(free, first_time(k) + m.follow_up_s)
            if (
                gone[k] > before[k]
                and (car.column, others[gone[k] - 1].column) in scene.yields
                and last[k] + m.follow_up_s > now + 1e-9
            ):
                free = max(free, last[k] + m.follow_up_s)
        return free

    while True:
        tries = [(first_time(k), k, False) for k in range(len(scene.lanes))] + [
            (waits[k][1], k, True) for k in sorted(waits)
        ]
        now, k, from_inside = min(tries, key=lambda x: x[0], default=(math.inf, 0, False))
        if now > end + m.end_gain_s or math.isinf(now):
            break
        car = waits[k][0] if from_inside else scene.lanes[k][gone[k]]
        free = free_at(car, k, now) if lights[car.column] == PERMISSIVE else -math.inf
        if free <= now:
            cost += price(car, now, m)
            if from_inside:
                del waits[k]
            else:
                gone[k], last[k] = gone[k] + 1, now
                put_off.pop(k, None)
        elif from_inside:
            waits[k] = (car, free)
        elif car.inside and k not in waits:
            waits[k] = (car, free)
            gone[k], last[k] = gone[k] + 1, now
            put_off.pop(k, None)
        else:
            put_off[k] = free
    cost += sum(price(car, end + 2.0, m) for car, _ in waits.values())
    return cost, list(zip(gone, last, strict=True))


def rest(scene, state):
    total = 0.0
    for lane, (gone, _) in zip(scene.lanes, state, strict=True):
        for car in lane[gone:]:
            if car.eta >= scene.m.horizon_s:
                break
            total += price(car, scene.m.horizon_s, scene.m) + car.weight * scene.m.leftover_cost_s
    return total


def waited(scene, state, at):
    total = 0.0
    for lane, (gone, _) in zip(scene.lanes, state, strict=True):
        for car in lane[gone:]:
            if car.eta >= at:
                break
            total += car.weight * (at - car.eta)
    return total


def passed(scene, state, lights, begin, opens, least):
    """When the queues and platoons of a stage have passed."""
    m = scene.m
    kept = {c: t for c, t in scene.kept_back(opens, begin).items() if lights[c] >= PERMISSIVE}
    until = max(
        [
            begin,
            *(
                t + least[c]
                for c, t in opens.items()
                if t is not None and lights[c] >= PERMISSIVE and c not in kept
            ),
        ]
    )
    opens = opens | kept
    for lane, (gone, last) in zip(scene.lanes, state, strict=True):
        came = 0
        for car in lane[gone:]:
            if lights[car.column] != GREEN or car.closed > 1:
                break
            at = earliest(car, last, begin, opens, m)
            ready = (max(last, begin) if came else until) + m.platoon_gap_s
            if car.eta > ready or at > m.horizon_s:
                break
            last, came = at, came + 1
        if came:
            until = max(until, last + 0.1)
    return max([until, *(t + least[c] for c, t in kept.items() if t < until)])


def lateness(scene, shown):
    """Two for each second by which a column begins after it was due.
    shown: (lights, begin, end, opens) of each stage of a plan.
    """
    total = 0.0
    for c, due in scene.due.items():
        begun = scene.m.horizon_s
        for lights, begin, end, opens in reversed(shown):
            start = (opens | scene.kept_back(opens, begin)).get(c)
            start = max(begin, start if start is not None else begin)
            if lights[c] >= PERMISSIVE and start < end:
                begun = start
        total += 2.0 * max(0.0, begun - due)
    return total


def follower(scene, state, stage, stages, at):
    scores = {}
    for s, lights in enumerate(stages):
        if s == stage:
            continue
        scores[s] = 0.0
        for lane, (gone, _) in zip(scene.lanes, state, strict=True):
            for car in lane[gone:]:
                if car.eta >= at + scene.m.look_ahead_s or not helped(car, lights[car.column]):
                    break
                scores[s] += (at + scene.m.look_ahead_s - car.eta) * (
                    1.0 if lights[car.column] == GREEN else 0.3
                )
    return max(scores, key=scores.get, default=stage)


def unroll(scene, state, stage, begin, end, stages, change, opens, least, before=()):
    """Cost of `stage` from begin to end, and then of each stage
    that follows until its queues have passed. before: what was shown, as in `lateness`.
    """
    cost, now, shown = 0.0, begin, list(before)
    for turn in range(12):
        if turn:
            end = passed(scene, state, stages[stage], now, opens, least)
        end = min(end, scene.m.horizon_s)
        paid, state = run(scene, state, stages[stage], now, end, opens)
        shown.append((stages[stage], now, end, opens))
        cost += paid
        if end >= scene.m.horizon_s:
            break
        after = follower(scene, state, stage, stages, end)
        opens = {c: None if t is None else end + t for c, t in change(stage, after).items()}
        stage, now = after, end
    return cost + rest(scene, state) + lateness(scene, shown)


def brute_force(scene, *about):
    """The stage that is best begun now, 0 where to hold the first is better; see `every_plan`."""
    stay, now, later = every_plan(scene, *about)
    best = min(now, key=now.get, default=0)
    # of plans that cost the same, the one that leaves at once
    if not now or now[best] >= stay or (later and min(later) < now[best] - 1e-9):
        return 0
    return best


def every_plan(scene, stages, change, soon, possible, harm, holds, lengths, least):
    """Every plan in full: what it costs to hold the first stage to the end, to begin each other now
    (by stage, at best), and to begin another later (each plan).
    stages: lights by column; change(x, y): seconds until
    each green that y begins; soon: the same for each stage from now;
    possible: seconds until the first may be left for each.
    """
    m = scene.m
    start = scene.nobody_gone()
    cost, state = run(scene, start, stages[0], 0.0, m.horizon_s, soon[0])
    stay = cost + rest(scene, state) + harm[0] * m.horizon_s
    stay += lateness(scene, [(stages[0], 0.0, m.horizon_s, soon[0])])
    now, later = {}, []
    for hold in holds:
        held, state = run(scene, start, stages[0], 0.0, hold, soon[0])
        for s in range(1, len(stages)):
            if hold > 0 and possible[s] > hold + 1e-6:
                continue
            opens = (
                soon[s]
                if hold == 0
                else {c: None if t is None else hold + t for c, t in change(0, s).items()}
            )
            clear = passed(scene, state, stages[s], hold, opens, least)
            costs = []
            for end in (clear, *(hold + x for x in lengths if hold + x < clear - 1.0)):
                costs.append(
                    held
                    + harm[0] * hold
                    + harm[s] * (end - hold)
                    + unroll(
                        scene,
                        state,
                        s,
                        hold,
                        end,
                        stages,
                        change,
                        opens,
                        least,
                        [(stages[0], 0.0, hold, soon[0])],
                    )
                )
            if hold == 0:
                now[s] = min(costs)
            else:
                later += costs
    return stay, now, later


# --- from the network and the observation ---


def crossing_s(link):
    """From standstill at 2 m/s2 up to the link's speed, over its length
    (the second half of it for who waits inside) and a car's length.
    """
    path = link.length_m * (0.5 if len(link.via) > 1 else 1.0) + 5.0
    t_full = link.speed_mps / 2.0
    d_full = t_full * t_full  # half of 2 m/s2 times t squared
    return math.sqrt(path) if path < d_full else t_full + (path - d_full) / link.speed_mps


def eta_s(distance, speed, limit, accel):
    if distance <= 0.0:
        return 0.0
    v = min(speed, limit)
    t_full = (limit - v) / accel
    d_full = (limit + v) / 2.0 * t_full
    if d_full >= distance:  # v t + a t2 / 2 = d
        return (-v + math.sqrt(v * v + 2.0 * accel * distance)) / accel
    return t_full + (distance - d_full) / limit


class Naive:
    def __init__(self, network, timing, m, holds, lengths):
        self.network = network
        self.timing = timing
        self.m = m
        self.holds = holds
        self.lengths = lengths
        self.barred, self.due = {}, {}

    def stages(self, j):
        """All compatible stages, as levels by column."""
        junction = self.network.junctions[j]
        found = []
        for row in compatible_stages(junction.stages, junction.conflicts, junction.yields):
            lights = {("group", g): int(row[g - junction.first]) for g in junction.groups}
            for g in self.waiting_groups(junction):
                foes = [
                    h
                    for h in junction.groups
                    if junction.yields[g - junction.first, h - junction.first]
                ]
                lights["inside", g] = (
                    GREEN if all(lights["group", h] < PERMISSIVE for h in foes) else PERMISSIVE
                )
            found.append(lights)
        return found

    def waiting_groups(self, junction):
        return [
            g
            for g in junction.groups
            if any(len(self.network.links[k].via) > 1 for k in self.network.groups[g].links)
        ]

    def yields(self, junction):
        pairs = set()
        for a in junction.groups:
            for b in junction.groups:
                if junction.yields[a - junction.first, b - junction.first]:
                    pairs.add((("group", a), ("group", b)))
                    if a in self.waiting_groups(junction):
                        pairs.add((("inside", a), ("group", b)))
        return pairs

    def intergreen(self, junction, ends, starts):
        """Seconds from the end of green of one group to the start of the other's, at ticks of a
        second; nought where they do not conflict.
        """
        if not junction.conflicts[ends - junction.first, starts - junction.first]:
            return 0.0
        return math.ceil(self.yellow(ends) + self.timing.clearance_s[ends])

    def yellow(self, group):
        return math.ceil(self.timing.yellow_s[group])

    def targets(self, seen, target, ended, barred=None, due=None):
        """barred, due: by group, seconds from now."""
        self.barred, self.due = barred or {}, due or {}
        room = seen.room_m.copy()
        v = seen.vehicles
        links, lanes = self.network.links, self.network.lanes
        coming = np.zeros(len(lanes))
        for link in v.link:
            if link >= 0:
                coming[links[link].to_lane] += 1
        out = []
        for j in range(len(self.network.junctions)):
            out.append(self.one(seen, j, int(target[j]), ended, room, coming))
        return out

    def queues(self, seen, j, room, coming):
        junction, m = self.network.junctions[j], self.m
        links = self.network.links
        own = sorted(
            {
                links[k].from_lane
                for g in junction.groups
                for k in self.network.groups[g].links
                if links[k].direction != "c"
            }
        )
        queues = [self.queue(seen, lane, room, coming) for lane in own]
        for g in junction.groups:
            if seen.waiting_persons[g] > 0 and seen.shown[g] < PERMISSIVE:
                queues.append(
                    [Car(0.0, ("group", g), True, m.person_weight * float(seen.waiting_persons[g]))]
                )
            if seen.unseen is not None and seen.unseen[g] > 0 and seen.shown[g] < PERMISSIVE:
                queues.append([Car(0.0, ("group", g), True, float(seen.unseen[g]))])
        return queues

    def queue(self, seen, lane, room, coming):
        """The vehicles of one lane, nearest first; `room` is what is left behind the junction."""
        m, v = self.m, seen.vehicles
        links, lanes = self.network.links, self.network.lanes
        rows = [
            i
            for i in range(len(v))
            if v.lane[i] == lane and v.link[i] >= 0 and links[v.link[i]].group >= 0
        ]
        rows.sort(key=lambda i: v.distance_m[i])
        standing = [v.distance_m[i] + 7.5 for i in rows if v.speed_mps[i] < 2.0]
        full = max(
            0.0,
            min(1.0, 2.0 * (standing[-1] if standing else 0.0) / lanes[lane].length_m - 1.0),
        )
        if not any(x.direction != "t" and lanes[x.to_lane].edge == lanes[lane].edge for x in links):
            full = 0.0  # they come from beyond the network: nobody is kept out of a junction
        of_street = sum(coming[i] for i in range(len(lanes)) if lanes[i].edge == lanes[lane].edge)
        queue = []
        for place, i in enumerate(rows):
            link = links[v.link[i]]
            waits = len(link.via) > 1
            if v.distance_m[i] < 0.0:
                if waits and v.speed_mps[i] < m.crawl_mps:
                    queue.append(self.inside(v, i, lanes[lane], of_street))
                continue
            eta = eta_s(v.distance_m[i], v.speed_mps[i], lanes[lane].speed_mps, m.acceleration_mps2)
            car = Car(
                eta,
                ("group", link.group),
                v.speed_mps[i] < m.crawl_mps,
                1.0 + m.spillback_weight * full * (1.0 + coming[lane] / len(rows)),
                self.blocked(seen, i) if place == 0 and v.distance_m[i] < 15.0 else 0,
                waits,
                crossing_s(link),
            )
            behind = lanes[link.to_lane]
            if room[link.to_lane] < min(m.min_room_m, 0.6 * behind.length_m):
                car.closed = 3 if behind.length_m < m.short_lane_m else 2
            if behind.length_m < m.short_lane_m and room[link.to_lane] < behind.length_m:
                room[link.to_lane] -= 7.5
            queue.append(car)
        return queue

    def inside(self, v, i, lane, of_street):
        """Vehicle i, which waits for a gap inside the junction, before a `lane` of its own."""
        m, link = self.m, self.network.links[v.link[i]]
        weight = 1.0
        if lane.length_m < m.short_lane_m:
            weight += m.spillback_weight * (1.0 + of_street) + v.waiting_s[i] / m.patience_s
        closed = 1 if v.waiting_s[i] > m.blocked_after_s else 0
        return Car(0.0, ("inside", link.group), True, weight, closed, False, crossing_s(link))

    def blocked(self, seen, i):
        """2 if the first of a queue does not go at green, 1 if it has waited long, else 0."""
        m, v = self.m, seen.vehicles
        group = self.network.links[v.link[i]].group
        if (
            v.waiting_s[i] > m.blocked_after_s
            and seen.shown[group] == GREEN
            and seen.shown_for_s[group] > m.blocked_after_s + 3.0
        ):
            return 2
        return 1 if v.waiting_s[i] > m.patience_s else 0

    def withheld(self, seen):
        """Groups that nobody may use who has nobody blocked before him, and somebody would."""
        v, links, lanes, m = seen.vehicles, self.network.links, self.network.lanes, self.m

        def stuck(i):
            behind = links[v.link[i]].to_lane
            room_m, length_m = seen.room_m[behind], lanes[behind].length_m
            return length_m < m.short_lane_m and room_m < min(m.min_room_m, 0.6 * length_m)

        waiting = [
            i
            for i in range(len(v))
            if v.link[i] >= 0 and links[v.link[i]].group >= 0 and v.distance_m[i] >= 0
        ]
        heads = [
            i
            for i in waiting
            if not any(
                stuck(k) and v.lane[k] == v.lane[i] and v.distance_m[k] < v.distance_m[i]
                for k in waiting
            )
        ]
        one = {links[v.link[i]].group for i in heads if stuck(i)}
        other = {links[v.link[i]].group for i in heads if not stuck(i)}
        return sorted(one - other)

    def one(self, seen, j, target, ended, room, coming):
        junction, m = self.network.junctions[j], self.m
        queues = self.queues(seen, j, room, coming)
        stages, numbers = self.stages(j), None
        if not seen.links_known:
            own = len(junction.stages)
            whole = [seen.inside_seen and self.serves_lanes(junction, x) for x in stages]
            numbers = [s for s in range(len(stages)) if s < own or whole[s]]
            target = numbers.index(target) if target in numbers else 0
            stages = [stages[s] for s in numbers]
        target = target if target < len(stages) else 0
        need = {car.column for lane in queues for car in lane if car.closed < 3}
        shut = {car.column for lane in queues for car in lane if car.closed == 3} - need
        shown = {("group", g) for g in junction.groups if seen.shown[g] >= PERMISSIVE}
        picks = pick_stages(stages, target, need, shut, shown)
        soon, possible = self.ahead(seen, junction, [stages[s] for s in picks], ended)
        if all(possible[s] > 0.0 for s in range(1, len(picks))):
            return target if numbers is None else numbers[target]
        possible = self.after_greens_to_come(junction, [stages[s] for s in picks], soon, possible)
        tried = [stages[s] for s in picks]
        harm = [m.blocking_cost * sum(lights[c] >= PERMISSIVE for c in shut) for lights in tried]
        least = {c: self.timing.min_green_s[c[1]] if c[0] == "group" else 0.0 for c in stages[0]}
        scene = Scene(
            queues,
            self.yields(junction),
            m,
            {("group", g): t for g, t in self.barred.items() if g in junction.groups},
            {("group", g): t for g, t in self.due.items() if g in junction.groups},
            shown,
        )
        best = brute_force(
            scene,
            tried,
            lambda x, y: self.change(junction, tried[x], tried[y]),
            soon,
            possible,
            harm,
            self.holds,
            self.lengths,
            least,
        )
        return picks[best] if numbers is None else numbers[picks[best]]

    def serves_lanes(self, junction, lights):
        """Whoever is guessed to go straight on may turn instead, if it is lit from his lane. Behind
        the junction nobody stands before the next signal within 60 m.
        """
        signalled = {x.from_lane for x in self.network.links if x.group >= 0 and x.direction != "c"}
        behind = {x.to_lane for x in self.network.links if x.group in junction.groups} & signalled
        if any(self.network.lanes[lane].length_m < 60.0 for lane in behind):
            return False
        by_lane = {}
        for link in self.network.links:
            if link.group in junction.groups:
                by_lane.setdefault(link.from_lane, []).append(link)
        for links in by_lane.values():
            order = ["s", "RL", "r", "l", "t"]
            first = min(links, key=lambda x: [x.direction not in names for names in order])
            if lights["group", first.group] >= PERMISSIVE and any(
                lights["group", x.group] < PERMISSIVE for x in links
            ):
                return False
        return True

    def change(self, junction, one, two):
        """Seconds from the change of one stage to another until each green that the other begins;
        None for those that it does not.
        """
        out = {}
        for c, level in two.items():
            out[c] = None
            if c[0] == "inside":
                if level == GREEN and one[c] != GREEN:
                    out[c] = 1.0
            elif level >= PERMISSIVE and one[c] < PERMISSIVE:
                ending = [
                    h
                    for h in junction.groups
                    if one["group", h] >= PERMISSIVE and two["group", h] < PERMISSIVE
                ]
                out[c] = max([0.0, *(self.intergreen(junction, h, c[1]) for h in ending)])
        return out

    def ahead(self, seen, junction, stages, ended):
        """From the signals as they stand: seconds until each green of each stage (None where it is
        green), and until the first may end for each.
        """
        soon, possible = [], []
        for s, lights in enumerate(stages):
            out, wait_for = {}, 0.0
            for c, level in lights.items():
                out[c] = None
                g = c[1]
                if c[0] == "inside":
                    if level == GREEN and stages[0][c] != GREEN:
                        out[c] = 1.0
                    continue
                lit = seen.shown[g] >= PERMISSIVE
                if level < PERMISSIVE and lit and s > 0:
                    wait_for = max(wait_for, self.timing.min_green_s[g] - seen.shown_for_s[g])
                if level >= PERMISSIVE and not lit:
                    times = [0.0]
                    if seen.shown[g] == 2:
                        times.append(self.yellow(g) - seen.shown_for_s[g])
                    for h in junction.groups:
                        clear = self.intergreen(junction, h, g)
                        if clear == 0.0:
                            continue
                        if seen.shown[h] < PERMISSIVE:
                            times.append(clear - (seen.at_s - ended[h]))
                        elif lights["group", h] < PERMISSIVE:
                            times.append(
                                max(0.0, self.timing.min_green_s[h] - seen.shown_for_s[h]) + clear
                            )
                    out[c] = max(times)
            soon.append(out)
            possible.append(wait_for)
        return soon, possible

    def after_greens_to_come(self, junction, stages, soon, possible):
        out = list(possible)
        for s in range(1, len(stages)):
            for g in junction.groups:
                c = ("group", g)
                if (
                    stages[0][c] >= PERMISSIVE
                    and stages[s][c] < PERMISSIVE
                    and soon[0][c] is not None
                    and self.barred.get(g, 0.0) <= soon[0][c]
                ):
                    out[s] = max(out[s], soon[0][c] + self.timing.min_green_s[g])
        return out


def pick_stages(stages, first, need, shut, shown):
    """Stages to try, `first` in front: those that serve what no other serves as well; of equals the
    one with least harm, then with most of what is lit.
    """

    def lit(s):
        return {c for c, level in stages[s].items() if level >= PERMISSIVE}

    def green(s):
        return {c for c, level in stages[s].items() if level == GREEN}

    def within(a, b):
        return need & lit(a) <= lit(b) and need & green(a) <= green(b)

    kept = [first]
    for s in range(len(stages)):
        if s == first:
            continue
        dropped, i = False, 0
        while i < len(kept) and not dropped:
            k = kept[i]
            worse = len(lit(s) & shut) - len(lit(k) & shut)
            if (
                i > 0
                and within(s, k)
                and within(k, s)
                and (worse < 0 or (worse == 0 and len(lit(s) & shown) > len(lit(k) & shown)))
            ):
                kept[i], dropped = s, True
            elif within(s, k) and worse >= 0:
                dropped = True
            elif within(k, s) and worse <= 0 and i > 0:
                last = kept.pop()
                if i < len(kept):
                    kept[i] = last
                continue
            i += 1
        if not dropped:
            kept.append(s)
    return kept
