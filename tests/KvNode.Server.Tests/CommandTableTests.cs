using System.Text;
using KvNode.Server.Commands;
using KvNode.Server.Resp;
using KvNode.Storage;
using Xunit;

namespace KvNode.Server.Tests;

public class CommandTableTests
{
    private static readonly LocalHandler Nothing = (ref LocalContext _) => { };

    [Fact]
    public void EveryRowIsFoundByItsNameInAnyCase()
    {
        foreach (var row in CommandTable.Default.Rows)
        {
            foreach (var name in (string[])[row.Name, row.DisplayName, row.Name[..1] + row.DisplayName[1..]])
            {
                Assert.True(CommandTable.Default.TryFind(Encoding.ASCII.GetBytes(name), out var found));
                Assert.Same(row, found);
            }
        }
    }

    [Fact]
    public void NothingButTheNameIsFound()
    {
        foreach (var row in CommandTable.Default.Rows)
        {
            var name = Encoding.ASCII.GetBytes(row.Name);
            Same(name[1..]);
            Same([.. name, (byte)'X']);
            for (var i = 0; i < name.Length; i++)
            {
                for (var value = 0; value < 256; value++)
                {
                    byte[] other = [.. name];
                    other[i] = (byte)value;
                    Same(other);
                }
            }
        }

        Assert.False(CommandTable.Default.TryFind(default, out _));

        static void Same(byte[] name)
        {
            var text = Wire.Text(name);
            CommandTable.Default.TryFind(name, out var found);
            Assert.True(ReferenceEquals(Expected(text), found), text);
        }

        static CommandSpec? Expected(string text)
        {
            foreach (var row in CommandTable.Default.Rows)
            {
                if (string.Equals(row.Name, text, StringComparison.OrdinalIgnoreCase))
                {
                    return row;
                }
            }

            return null;
        }
    }

    [Fact]
    public void NamesWithSignsDigitsAndAnyLengthAreExact()
    {
        string[] names =
        [
            "A", "NO-EVICT", "X1", "ABCDEFG", "ABCDEFGH", "ABCDEFGHI", "ABCDEFGHIJKLMNOP", "ABCDEFGHIJKLMNOPQ",
            "ABCDEFGHIJK-MNOPQRSTUVWXYZ", "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "[{", "@@",
        ];
        var rows = names.Select(name => (CommandSpec)Local(name)).ToArray();
        var table = new CommandNames(rows);
        for (var i = 0; i < names.Length; i++)
        {
            Assert.True(table.TryFind(Encoding.ASCII.GetBytes(names[i].ToLowerInvariant()), out var found));
            Assert.Same(rows[i], found);
        }

        // The same bytes but for bit 5, where that is no letter; and a difference in the middle of a long name.
        foreach (var other in (string[])["NO\rEVICT", "X\u0011", "{{", "[[", "@`", "``", "ABCDEFGHIJKXMNOPQRSTUVWXYZ"])
        {
            Assert.False(table.TryFind(Wire.Bytes(other), out _), other);
        }
    }

    [Fact]
    public void ATableWhoseRowsContradictThemselvesIsRefused()
    {
        var flags = CommandFlags.None;
        Refused("there twice", Local("A"), Local("A"));
        Refused("there twice", Local(""));
        Refused("upper case", Local("a"));
        Refused("has no arity", new LocalCommand("A", 0, flags, "g", "s", Nothing));
        Refused("lacks a summary", new LocalCommand("A", 1, flags, "g", "", Nothing));
        Refused("is a write in flags", new LocalCommand("A", 1, CommandFlags.Write, "g", "s", Nothing));
        Refused("is a read in flags", new LocalCommand("A", 1, CommandFlags.ReadOnly, "g", "s", Nothing));
        Refused("writes no key", Write(1, KeySpec.None));
        Refused("does not say what", Write(2, KeySpec.At(1)));
        Refused("without its first key", Read(1, KeySpec.At(1), ""));
        Refused("impossible key range", Read(3, new KeySpec(2, 1, 1), "key key"));
        Refused("impossible key range", Read(3, new KeySpec(1, 2, 0), "key key"));
        Refused("container of nothing", new ContainerCommand("A", "g", "s"));
        Refused("does not fit its place", new ContainerCommand("A", "g", "s") { Subcommands = [Local("B")] });
        Refused("does not fit its place", new ContainerCommand("A", "g", "s") { Subcommands = [Local("B|C")] });
        Refused("nests subcommands twice", Local("A", Local("A|B", Local("A|B|C"))));
        Refused("syntax that does not parse", Read(2, KeySpec.At(1), "[key"));
        Refused("arity that its syntax", Read(3, KeySpec.At(1), "key"));
        Refused("syntax that varies", Read(2, KeySpec.At(1), "key [key ...]"));
        var good = new CommandTable([Local("A", Local("A|B")), Read(-2, KeySpec.From(1), "key [key ...]")]);
        Assert.Equal(2, good.Rows.Length);

        static ReadCommand Read(int arity, KeySpec keys, string syntax) =>
            new("R", arity, keys, CommandFlags.None, "g", "s", (ref ReadContext _) => { }) { Syntax = syntax };

        static WriteCommand Write(int arity, KeySpec keys) =>
            new("W", arity, keys, CommandFlags.None, "g", "s", (ref WriteContext _) => { });

        static void Refused(string reason, params CommandSpec[] rows)
        {
            var refusal = Assert.Throws<ArgumentException>(() => new CommandTable(rows));
            Assert.Contains(reason, refusal.Message, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("foo", "-ERR unknown command 'foo', with args beginning with: \r\n")]
    [InlineData("FoO a b c", "-ERR unknown command 'FoO', with args beginning with: 'a' 'b' 'c' \r\n")]
    [InlineData("get", "-ERR wrong number of arguments for 'get' command\r\n")]
    [InlineData("GeT a b", "-ERR wrong number of arguments for 'get' command\r\n")]
    [InlineData("ping a b", "-ERR wrong number of arguments for 'ping' command\r\n")]
    [InlineData("config", "-ERR wrong number of arguments for 'config' command\r\n")]
    [InlineData("config foo", "-ERR unknown subcommand 'foo'. Try CONFIG HELP.\r\n")]
    [InlineData("CoNfIg Foo a", "-ERR unknown subcommand 'Foo'. Try CONFIG HELP.\r\n")]
    [InlineData("CONFIG GeT", "-ERR wrong number of arguments for 'config|get' command\r\n")]
    [InlineData("client setname a b", "-ERR wrong number of arguments for 'client|setname' command\r\n")]
    [InlineData("command foo", "-ERR unknown subcommand 'foo'. Try COMMAND HELP.\r\n")]
    [InlineData("command count x", "-ERR wrong number of arguments for 'command|count' command\r\n")]
    public void WhatCannotRunIsAnsweredInRedissWords(string line, string reply) =>
        Assert.Equal(reply, new CommandRunner().Run(line));

    [Fact]
    public void ArgumentsOverTheLimitsAreRefusedBeforeTheyAreStored()
    {
        var runner = new CommandRunner();
        byte[] longKey = new byte[StoreLimits.KeyBytesMax + 1];
        byte[] longestKey = new byte[StoreLimits.KeyBytesMax];
        byte[] longValue = new byte[(1024 * 1024) + 1];
        byte[] longestValue = new byte[1024 * 1024];
        byte[] set = Wire.Bytes("SET"), mset = Wire.Bytes("MSET"), get = Wire.Bytes("GET"), key = Wire.Bytes("k");
        Assert.StartsWith("-ERR key is longer than ", runner.Run(set, longKey, key), StringComparison.Ordinal);
        Assert.StartsWith("-ERR key is longer than ", runner.Run(get, longKey), StringComparison.Ordinal);
        Assert.StartsWith("-ERR key is longer than ", runner.Run(mset, key, key, longKey, key), StringComparison.Ordinal);
        Assert.Equal("-ERR value is longer than 1048576 bytes\r\n", runner.Run(set, key, longValue));
        Assert.Equal("-ERR value is longer than 1048576 bytes\r\n", runner.Run(mset, key, key, key, longValue));
        Assert.Equal(0, runner.Store.Count);
        Assert.Equal("+OK\r\n", runner.Run(set, longestKey, longestValue));
        Assert.Equal("+OK\r\n", runner.Run(mset, longestKey, longestValue));
        Assert.Equal("$1048577\r\n", runner.Run(Wire.Bytes("ECHO"), longValue)[..10]);
    }

    [Fact]
    public void RefusalsAreCountedAtTheirRow()
    {
        LocalCommand row = new("A", 2, CommandFlags.None, "g", "s", Nothing)
        {
            Syntax = "word",
            Check = (args, reply) =>
            {
                reply.Error("ERR no"u8);
                return args[1].Length == 0;
            },
        };
        var runner = new CommandRunner { Table = new CommandTable([row]) };
        runner.Run("A");
        runner.Run("A x");
        Assert.Equal(2, row.Stats.Rejected);
    }

    [Fact]
    public void FindingACommandAndRunningGetAndSetAllocatesNothing()
    {
        using var store = new OneKey();
        using var reply = new RespWriter();
        var (rawGet, rangesGet) = Wire.Encode(Wire.Bytes("get"), Wire.Bytes("k"));
        var (rawSet, rangesSet) = Wire.Encode(Wire.Bytes("Set"), Wire.Bytes("k"), Wire.Bytes("value"));
        Round(10);
        var before = GC.GetAllocatedBytesForCurrentThread();
        Round(1000);
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.Equal("+OK\r\n$5\r\nvalue\r\n$-1\r\n", Wire.Text(reply.Written));

        void Round(int count)
        {
            for (var i = 0; i < count; i++)
            {
                reply.Reset();
                store.Missing = false;
                var set = new CommandArgs(rawSet, rangesSet);
                var write = new WriteContext(set, store, reply, 0);
                ((WriteCommand)CommandTable.Default.Admit(set, reply, 100)!).Run(ref write);
                var get = new CommandArgs(rawGet, rangesGet);
                var read = new ReadContext(get, store, reply);
                ((ReadCommand)CommandTable.Default.Admit(get, reply, 100)!).Run(ref read);
                store.Missing = true;
                ((ReadCommand)CommandTable.Default.Admit(get, reply, 100)!).Run(ref read);
            }
        }
    }

    private static LocalCommand Local(string name, params CommandSpec[] subcommands) =>
        new(name, name.Contains('|') ? -2 : -1, CommandFlags.None, "test", "A row of a test.", Nothing)
        {
            Subcommands = subcommands,
        };

    /// <summary>A keyspace that keeps one value and allocates nothing.</summary>
    private sealed class OneKey : WriteView
    {
        private readonly byte[] _value = new byte[16];
        private int _length;

        public bool Missing { get; set; }

        public override long Count => 1;

        public override bool TryGet(ReadOnlySpan<byte> key, out ReadOnlySpan<byte> value, out ValueTag tag)
        {
            value = _value.AsSpan(0, _length);
            tag = ValueTag.String;
            return !Missing;
        }

        public override KeyCursor Scan(KeyRange range) => throw new NotSupportedException();

        public override void Put(ReadOnlySpan<byte> key, ReadOnlySpan<byte> value)
        {
            value.CopyTo(_value);
            _length = value.Length;
        }

        public override bool Delete(ReadOnlySpan<byte> key) => throw new NotSupportedException();

        public override void Clear() => throw new NotSupportedException();

        protected override void Dispose(bool disposing)
        {
        }
    }
}
