"""Random command sequences over every command of the node that Redis has too.

Few keys, so that commands meet each other's results; arguments are mostly right, sometimes odd,
sometimes wrong. Either all keys share one slot and there are transactions, or the keys lie in many
slots and there are none (Pinnace refuses a transaction over several shards, a single Redis does not).
"""

import time

# All in one slot, so that transactions may name any of them.
TAGGED_KEYS = [b"{k}a", b"{k}b", b"{k}c", b"{k}d", b"{k}\x01\xff\r\n", b"{k}"]

# In many slots and on all cores.
SPREAD_KEYS = [b"%d" % i for i in range(6)] + [b"\x01\xff\r\n", b"", b"{}x", b"{a}", b"x{b}y"]

TEXTS = [
    b"", b"0", b"1", b"-1", b"7", b"00", b" 1", b"1 ", b"+1", b"-0", b"10", b"9223372036854775807",
    b"-9223372036854775808", b"9223372036854775808", b"3.14", b"-2.5e3", b"1e400", b"nan", b"inf", b"-inf", b"0x10",
    b"abc", b"hello world", b"\x00", b"\xff\xfe\x00\r\n", b"foobar", b"OK", b"12345678901234567890",
    b"3.0e-2", b".5", b"5.", b"1_000",
]

NUMBERS = [
    b"0", b"1", b"-1", b"2", b"5", b"10", b"100", b"-100", b"9223372036854775807", b"-9223372036854775808",
    b"9223372036854775808", b"abc", b"", b"1.5", b" 1", b"4294967296", b"2147483648",
]

SMALL = [b"0", b"1", b"2", b"3", b"7", b"8", b"15", b"63", b"100", b"-1", b"-2", b"-8", b"-100"]


class Grammar:
    """Draws commands from `random`; deterministic in its seed except for absolute times."""

    def __init__(self, random, spread=False):
        self.random, self.spread, self.open_multi = random, spread, False
        self.all_keys = SPREAD_KEYS if spread else TAGGED_KEYS
        self.wrong_names = WRONG_NAMES if spread else WRONG_NAMES + TRANSACTION_NAMES
        self.rules = self._rules()
        self.names = [name for name, weight, _ in self.rules for _ in range(weight)]
        self.by_name = {name: rule for name, _, rule in self.rules}

    # --- arguments -----------------------------------------------------------------------

    def pick(self, *choices):
        return self.random.choice(choices)

    def chance(self, percent):
        return self.random.randrange(100) < percent

    def key(self):
        return self.random.choice(self.all_keys)

    def value(self):
        roll = self.random.randrange(100)
        if roll < 60:
            return self.random.choice(TEXTS)
        if roll < 80:
            return b"%d" % self.random.randrange(-1000, 1000)
        if roll < 97:
            return self.random.randbytes(self.random.randrange(0, 80))
        return self.random.randbytes(self.random.choice([1000, 16383, 16384, 70000]))

    def number(self):
        return self.random.choice(NUMBERS)

    def small(self):
        return self.random.choice(SMALL) if self.chance(90) else self.number()

    def bit_offset(self):
        return self.pick(b"0", b"1", b"7", b"8", b"9", b"63", b"1000", b"-1", b"4294967296", b"abc", b"#1")

    def bit(self):
        return self.pick(b"0", b"1", b"0", b"1", b"2", b"x")

    def case(self, word):
        """The same word in another case, sometimes: names and options are case-insensitive."""
        return self.pick(word, word, word.lower(), word.capitalize(), word.upper())

    def absolute(self, unit):
        offset = self.pick(self.random.randrange(100, 100_000), self.random.randrange(100, 100_000), -10, 0)
        now = int(time.time())
        return b"%d" % ((now + offset) * unit) if offset > 0 else b"%d" % offset

    def span(self, unit):
        """Long enough that nothing expires while a run compares replies, or refused at once."""
        # Random seconds: two equal spans, set at two times, would make GT and LT a matter of a millisecond.
        right = b"%d" % (self.random.randrange(100, 100_000) * unit)
        return self.pick(right, right, right, b"0", b"-1", b"abc", b"9223372036854775807",
                         b"1.5", b"", b"-9223372036854775808")

    def range_end(self):
        return self.random.choice(SMALL)

    def keys(self, least=1, most=4):
        return [self.key() for _ in range(self.random.randrange(least, most + 1))]

    # --- commands ------------------------------------------------------------------------

    def set_command(self):
        args = [b"SET", self.key(), self.value()]
        for _ in range(self.pick(0, 0, 0, 1, 1, 2, 3)):
            option = self.pick(b"EX", b"PX", b"EXAT", b"PXAT", b"NX", b"XX", b"KEEPTTL", b"GET", b"BAD")
            args.append(self.case(option))
            if option in (b"EX", b"PX") and self.chance(95):
                args.append(self.span(1000 if option == b"PX" else 1))
            elif option in (b"EXAT", b"PXAT") and self.chance(95):
                args.append(self.absolute(1000 if option == b"PXAT" else 1))
        return args

    def getex_command(self):
        args = [b"GETEX", self.key()]
        for _ in range(self.pick(0, 1, 1, 1, 2)):
            option = self.pick(b"EX", b"PX", b"EXAT", b"PXAT", b"PERSIST", b"BAD")
            args.append(self.case(option))
            if option in (b"EX", b"PX"):
                args.append(self.span(1000 if option == b"PX" else 1))
            elif option in (b"EXAT", b"PXAT"):
                args.append(self.absolute(1000 if option == b"PXAT" else 1))
        return args

    def expire_command(self):
        name = self.pick(b"EXPIRE", b"PEXPIRE", b"EXPIREAT", b"PEXPIREAT")
        unit = 1000 if name.startswith(b"P") else 1
        args = [name, self.key(), self.absolute(unit) if name.endswith(b"AT") else self.span(unit)]
        for _ in range(self.pick(0, 0, 1, 1, 2)):
            args.append(self.case(self.pick(b"NX", b"XX", b"GT", b"LT", b"BAD")))
        return args

    def bitcount_command(self):
        args = [b"BITCOUNT", self.key()]
        if self.chance(70):
            args += [self.small(), self.small()]
            if self.chance(50):
                args.append(self.case(self.pick(b"BYTE", b"BIT", b"BAD")))
        elif self.chance(20):
            args.append(self.small())
        return args

    def bitpos_command(self):
        args = [b"BITPOS", self.key(), self.bit()]
        for _ in range(self.pick(0, 1, 2)):
            args.append(self.small())
        if len(args) == 5 and self.chance(50):
            args.append(self.case(self.pick(b"BYTE", b"BIT", b"BAD")))
        return args

    def bitop_command(self):
        name = self.pick(b"AND", b"OR", b"XOR", b"NOT", b"BAD")
        return [b"BITOP", self.case(name), self.key()] + self.keys(1, 1 if name == b"NOT" and self.chance(80) else 4)

    def bitfield_command(self):
        args = [self.pick(b"BITFIELD", b"BITFIELD", b"BITFIELD_RO"), self.key()]
        kinds = (b"u1", b"u4", b"u8", b"i8", b"i16", b"u63", b"i64", b"i5", b"u64", b"x8", b"i65", b"i1", b"i0")
        for _ in range(self.random.randrange(0, 4)):
            operation = self.pick(b"GET", b"GET", b"SET", b"INCRBY", b"OVERFLOW", b"BAD")
            args.append(self.case(operation))
            if operation == b"OVERFLOW":
                args.append(self.case(self.pick(b"WRAP", b"SAT", b"FAIL", b"BAD")))
                continue
            args += [self.pick(*kinds), self.pick(b"0", b"1", b"7", b"#0", b"#1", b"#3", b"100", b"-1", b"x", b"#x")]
            if operation in (b"SET", b"INCRBY"):
                args.append(self.pick(b"0", b"1", b"-1", b"127", b"255", b"-128", b"9223372036854775807",
                                      b"-9223372036854775808", b"x", b"300"))
        return args

    def copy_command(self):
        args = [b"COPY", self.key(), self.key()]
        if self.chance(40):
            args.append(self.case(self.pick(b"REPLACE", b"BAD")))
        if self.chance(15):
            args += [b"DB", self.pick(b"0", b"x")]
        return args

    def object_command(self):
        sub = self.pick(b"ENCODING", b"REFCOUNT", b"HELP", b"BAD")
        return [b"OBJECT", self.case(sub)] + ([] if sub == b"HELP" else [self.key()])

    def scan_command(self):
        args = [b"SCAN", self.pick(b"0", b"0", b"0", b"x", b"0x")]
        for _ in range(self.pick(0, 1, 2)):
            option = self.pick(b"MATCH", b"COUNT", b"TYPE", b"BAD")
            args.append(self.case(option))
            if self.chance(95):
                args.append({
                    b"MATCH": self.pick(b"*", b"{k}*", b"*a", b"nothing"),
                    b"COUNT": self.pick(b"1000", b"5000", b"0", b"-1", b"x"),
                    b"TYPE": self.pick(b"string", b"STRING", b"hash", b"nosuch"),
                }.get(option, b"?"))
        return args

    def client_command(self):
        sub = self.pick(b"GETNAME", b"SETNAME", b"SETINFO", b"NO-EVICT", b"BAD", b"REPLY", b"HELP", b"ID",
                        b"KILL", b"UNPAUSE", b"LIST", b"INFO", b"PAUSE")
        args = [b"CLIENT", self.case(sub)]
        if sub == b"SETNAME":
            args.append(self.pick(b"me", b"two words", b"", b"new\nline"))
        elif sub == b"SETINFO":
            args += [self.pick(b"lib-name", b"LIB-VER", b"bad"), self.pick(b"x", b"two words", b"1.2.3")]
        elif sub == b"NO-EVICT":
            args.append(self.pick(b"on", b"OFF", b"bad"))
        elif sub == b"REPLY":
            args.append(self.pick(b"ON", b"bad"))
        elif sub == b"KILL":
            args += self.pick([b"1.2.3.4:5"], [b"ID", b"999999999"], [b"ID", b"x"], [b"TYPE", b"bad"], [b"BAD", b"1"],
                              [b"ADDR"], [b"ID", b"0"])
        elif sub == b"LIST":
            args += self.pick([b"TYPE", b"bad"], [b"ID", b"x"], [b"ID", b"999999999"], [b"BAD"], [b"TYPE"])
        elif sub == b"PAUSE":
            args += self.pick([b"x"], [b"-1"], [b"0", b"BAD"], [])
        return args

    def config_command(self):
        return [b"CONFIG"] + self.pick(
            [b"GET", b"nosuch"], [b"GET"], [b"SET", b"nosuch", b"1"], [b"SET", b"maxmemory-policy"], [b"SET"],
            [b"RESETSTAT"], [b"BAD"], [b"RESETSTAT", b"x"], [b"SET", b"timeout", b"abc"],
        )

    def command_command(self):
        return [b"COMMAND"] + self.pick(
            [b"GETKEYS", b"GET", b"k"], [b"GETKEYS", b"MSET", b"a", b"1", b"b", b"2"], [b"GETKEYS", b"PING"],
            [b"GETKEYS", b"BITOP", b"AND", b"d", b"a", b"b"], [b"GETKEYS", b"NOSUCH", b"x"], [b"GETKEYS", b"GET"],
            [b"INFO", b"nosuch"], [b"BAD"], [b"GETKEYS"], [b"COUNT", b"x"], [b"DOCS", b"nosuch"],
            [b"GETKEYS", b"SET", b"k", b"v", b"EX", b"5"], [b"GETKEYS", b"DEL", b"a", b"b", b"c"],
            [b"LIST", b"FILTERBY", b"BAD", b"x"], [b"LIST", b"FILTERBY", b"PATTERN", b"getd*"],
        )

    def various_command(self):
        return self.pick(
            [b"PING"], [b"PING", self.value()], [b"PING", b"a", b"b"], [b"ECHO", self.value()], [b"ECHO"],
            [b"SELECT", b"0"], [b"SELECT", b"x"], [b"SELECT", b"-1"], [b"SELECT", b"999"],
            [b"NOSUCH"], [b"nosuch", self.quotable(), b"b" * 200], [b"NO\r\nSUCH", b"a\r\nb"], [b""],
            [b"HELLO", b"4"], [b"HELLO", b"x"], [b"HELLO", b"2", b"BAD"], [b"HELLO", b"3", b"SETNAME"],
            [b"MEMORY", b"USAGE", b"{k}nosuch"], [b"MEMORY", b"BAD"], [b"MEMORY", b"USAGE"],
            [b"MEMORY", b"USAGE", self.key(), b"SAMPLES", b"x"],
            [b"SLOWLOG", b"GET", b"x"], [b"SLOWLOG", b"BAD"], [b"SLOWLOG", b"RESET"], [b"SLOWLOG", b"GET", b"-2"],
            [b"LATENCY", b"LATEST"], [b"LATENCY", b"RESET", b"nosuch"], [b"LATENCY", b"BAD"],
            [b"PUBSUB", b"CHANNELS"], [b"PUBSUB", b"NUMSUB"], [b"PUBSUB", b"NUMSUB", b"x"], [b"PUBSUB", b"NUMPAT"],
            [b"PUBSUB", b"BAD"], [b"PUBLISH", b"c", self.value()], [b"PUBLISH", b"c"], [b"TIME", b"x"],
            [b"DBSIZE"], [b"DBSIZE", b"x"], [b"FLUSHALL", b"BAD"], [b"FLUSHDB", b"SYNC", b"x"], [b"KEYS"],
            [b"RANDOMKEY", b"x"], [b"RESET", b"x"], [b"AUTH", b"x"],
        )

    def transaction_command(self):
        watch = [b"WATCH"] if self.spread else [b"WATCH", self.key(), self.key()]
        return self.pick([b"MULTI"], [b"EXEC"], [b"DISCARD"], [b"WATCH"], [b"UNWATCH"], [b"EXEC", b"x"],
                         [b"EXEC"], [b"EXEC"], watch, watch[:2], watch[:2])

    def wrong_command(self):
        """A known command with a random number of random arguments, each of which may be taken for a key."""
        name = self.random.choice(self.wrong_names)
        tag = b"" if self.spread else b"{k}"
        return [name] + [self.pick(self.key(), tag + self.quotable(), self.number() if self.spread else self.key())
                         for _ in range(self.random.randrange(0, 4))]

    def quotable(self):
        """Redis cuts what it quotes in an error at the first NUL, being written in C."""
        return self.value().replace(b"\0", b"?")

    def _rules(self):
        k, v = self.key, self.value
        return [
            ("set", 30, self.set_command),
            ("get", 20, lambda: [self.pick(b"GET", b"get", b"STRLEN", b"GETDEL", b"TYPE", b"EXISTS"), k()]),
            ("getex", 5, self.getex_command),
            ("old", 8, lambda: self.pick(
                [b"SETNX", k(), v()], [b"GETSET", k(), v()], [b"APPEND", k(), v()],
                [b"SETEX", k(), self.span(1), v()], [b"PSETEX", k(), self.span(1000), v()])),
            ("many", 8, lambda: self.pick(
                [b"MGET"] + self.keys(), [b"MSET"] + [x for key in self.keys() for x in (key, v())],
                # Over several slots MSETNX is refused (docs/adr/0003), which Redis does not do.
                [b"MSETNX"] + [x for key in self.keys()[:1 if self.spread else None] for x in (key, v())],
                [b"MSET", k()],
                [b"MSETNX", k(), v(), k()])),
            ("delete", 6, lambda: [self.pick(b"DEL", b"UNLINK", b"EXISTS", b"TOUCH")] + self.keys()),
            ("range", 8, lambda: self.pick(
                [self.pick(b"GETRANGE", b"SUBSTR"), k(), self.small(), self.small()],
                [b"SETRANGE", k(), self.pick(b"0", b"1", b"5", b"100", b"-1", b"536870912", b"x"), v()])),
            ("count", 12, lambda: self.pick(
                [b"INCR", k()], [b"DECR", k()], [b"INCRBY", k(), self.number()], [b"DECRBY", k(), self.number()],
                [b"INCRBYFLOAT", k(), self.pick(*TEXTS)])),
            ("bits", 8, lambda: self.pick(
                [b"SETBIT", k(), self.bit_offset(), self.bit()], [b"GETBIT", k(), self.bit_offset()])),
            ("bitcount", 5, self.bitcount_command),
            ("bitpos", 5, self.bitpos_command),
            ("bitop", 5, self.bitop_command),
            ("bitfield", 8, self.bitfield_command),
            ("expire", 10, self.expire_command),
            ("ttl", 8, lambda: [self.pick(b"TTL", b"PTTL", b"EXPIRETIME", b"PEXPIRETIME", b"PERSIST"), k()]),
            ("rename", 4, lambda: [self.pick(b"RENAME", b"RENAMENX"), k(), k()]),
            ("copy", 3, self.copy_command),
            ("object", 3, self.object_command),
            ("scan", 3, self.scan_command),
            ("keys", 2, lambda: [b"KEYS", self.pick(b"*", b"{k}?", b"[^a]*", b"*\\*", b"{k}[a-c]", b"\\", b"[", b"")]),
            ("flush", 1, lambda: [self.pick(b"FLUSHALL", b"FLUSHDB")] + self.pick([], [b"SYNC"], [b"ASYNC"])),
            ("client", 3, self.client_command),
            ("config", 2, self.config_command),
            ("command", 2, self.command_command),
            ("various", 8, self.various_command),
            ("transaction", 0 if self.spread else 8, self.transaction_command),
            ("wrong", 5, self.wrong_command),
        ]

    def command(self):
        """The next command. Inside MULTI none that asks all cores: Pinnace refuses those, Redis does not."""
        command = self.draw_command()
        while self.open_multi and command[0].upper() in WHOLE_NODE_NAMES:
            command = self.draw_command()
        if command == [b"MULTI"]:
            self.open_multi = True
        elif command[0] in (b"EXEC", b"DISCARD") and len(command) == 1:
            self.open_multi = False
        return command

    def draw_command(self):
        if self.open_multi and self.chance(20):
            return [self.pick(b"EXEC", b"EXEC", b"EXEC", b"DISCARD")]
        return self.by_name[self.random.choice(self.names)]()


WHOLE_NODE_NAMES = {
    b"KEYS", b"SCAN", b"RANDOMKEY", b"DBSIZE", b"FLUSHALL", b"FLUSHDB", b"PUBLISH", b"PUBSUB", b"CONFIG", b"CLIENT",
    b"SLOWLOG", b"LATENCY", b"MEMORY", b"INFO",
}

# Never drawn with random arguments: what ends, pauses or floods the run.
WRONG_NAMES = [
    b"GET", b"SET", b"SETNX", b"SETEX", b"PSETEX", b"GETSET", b"GETDEL", b"GETEX", b"MGET", b"MSET", b"MSETNX",
    b"APPEND", b"STRLEN", b"GETRANGE", b"SUBSTR", b"INCR", b"DECR", b"INCRBY", b"DECRBY", b"INCRBYFLOAT",
    b"GETBIT", b"BITCOUNT", b"BITPOS", b"BITOP", b"BITFIELD", b"DEL", b"UNLINK", b"EXISTS", b"TYPE", b"TTL",
    b"PTTL", b"EXPIRE", b"EXPIREAT", b"EXPIRETIME", b"PEXPIRETIME", b"PERSIST", b"RENAME", b"RENAMENX", b"COPY",
    b"TOUCH", b"OBJECT", b"KEYS", b"PUBLISH", b"ECHO",
]

TRANSACTION_NAMES = [b"UNWATCH", b"DISCARD", b"MULTI", b"EXEC", b"WATCH"]
