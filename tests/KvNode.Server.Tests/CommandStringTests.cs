using KvNode.Storage;
using Xunit;

namespace KvNode.Server.Tests;

public class CommandStringTests
{
    private const string WrongType = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";

    [Theory]
    [InlineData("SET a 1", "+OK\r\n", "1")]
    [InlineData("set a 1 keepttl", "+OK\r\n", "1")]
    [InlineData("SET a 1 NX", "$-1\r\n", "old")]
    [InlineData("SET a 1 XX", "+OK\r\n", "1")]
    [InlineData("SET a 1 xx XX", "+OK\r\n", "1")]
    [InlineData("SET a 1 GET", "$3\r\nold\r\n", "1")]
    [InlineData("SET a 1 NX GET", "$3\r\nold\r\n", "old")]
    [InlineData("SET a 1 GET XX", "$3\r\nold\r\n", "1")]
    [InlineData("SET a 1 KEEPTTL GET KEEPTTL", "$3\r\nold\r\n", "1")]
    [InlineData("SET a 1 NX XX", "-ERR syntax error\r\n", "old")]
    [InlineData("SET a 1 XX GET NX", "-ERR syntax error\r\n", "old")]
    [InlineData("SET a 1 EX 10", "-ERR syntax error\r\n", "old")]
    [InlineData("SET a 1 FOO", "-ERR syntax error\r\n", "old")]
    [InlineData("SET a", "-ERR wrong number of arguments for 'set' command\r\n", "old")]
    public void SetOfAnExistingKeyAnswersAndStores(string line, string reply, string stored)
    {
        var runner = new CommandRunner();
        runner.Store.Put("a", "old");
        Assert.Equal(reply, runner.Run(line));
        Assert.Equal(stored, runner.Store.Find("a"));
    }

    [Theory]
    [InlineData("SET a 1", "+OK\r\n", "1")]
    [InlineData("SET a 1 NX", "+OK\r\n", "1")]
    [InlineData("SET a 1 XX", "$-1\r\n", null)]
    [InlineData("SET a 1 GET", "$-1\r\n", "1")]
    [InlineData("SET a 1 NX GET", "$-1\r\n", "1")]
    [InlineData("SET a 1 XX GET", "$-1\r\n", null)]
    public void SetOfAMissingKeyAnswersAndStores(string line, string reply, string? stored)
    {
        var runner = new CommandRunner();
        Assert.Equal(reply, runner.Run(line));
        Assert.Equal(stored, runner.Store.Find("a"));
    }

    [Fact]
    public void SetReplacesAValueOfAnotherTypeUnlessItMustAnswerIt()
    {
        var runner = new CommandRunner();
        runner.Store.Put("h", "x", ValueTag.Hash);
        Assert.Equal(WrongType, runner.Run("SET h 1 GET"));
        Assert.Equal("x", runner.Store.Find("h"));
        Assert.Equal("+OK\r\n", runner.Run("SET h 1"));
        Assert.Equal("$1\r\n1\r\n", runner.Run("GET h"));
    }

    [Fact]
    public void KeysAndValuesAreAnyBytesAndMayBeEmpty()
    {
        var runner = new CommandRunner();
        Assert.Equal("+OK\r\n", runner.Run(Wire.Bytes("SET"), [], [0, 13, 10, 255]));
        Assert.Equal("$4\r\n\0\r\n\u00FF\r\n", runner.Run(Wire.Bytes("GET"), []));
        Assert.Equal("+OK\r\n", runner.Run(Wire.Bytes("SET"), [255, 0], []));
        Assert.Equal("$0\r\n\r\n", runner.Run(Wire.Bytes("GET"), [255, 0]));
    }

    [Theory]
    [InlineData(2, "$-1\r\n", "*3\r\n$1\r\n1\r\n$-1\r\n$-1\r\n")]
    [InlineData(3, "_\r\n", "*3\r\n$1\r\n1\r\n_\r\n_\r\n")]
    public void AMissingValueIsTheProtocolsNull(int protocol, string get, string mget)
    {
        var runner = new CommandRunner(protocol);
        runner.Store.Put("a", "1");
        runner.Store.Put("h", "x", ValueTag.List);
        Assert.Equal(get, runner.Run("GET nope"));
        Assert.Equal(mget, runner.Run("MGET a nope h"));
        Assert.Equal(get, runner.Run("SET nope 1 XX"));
    }

    [Fact]
    public void ReadsOfAnotherTypeAreRefused()
    {
        var runner = new CommandRunner();
        runner.Store.Put("h", "x", ValueTag.SortedSet);
        Assert.Equal(WrongType, runner.Run("GET h"));
        Assert.Equal(WrongType, runner.Run("STRLEN h"));
    }

    [Fact]
    public void StrlenCountsBytes()
    {
        var runner = new CommandRunner();
        runner.Store.Put("a", "12345678901");
        Assert.Equal(":11\r\n", runner.Run("STRLEN a"));
        Assert.Equal(":0\r\n", runner.Run("STRLEN nope"));
    }

    [Fact]
    public void MsetStoresEveryPairAndTheLastOfEqualKeysWins()
    {
        var runner = new CommandRunner();
        Assert.Equal("+OK\r\n", runner.Run("MSET a 1 b 2 a 3"));
        Assert.Equal("*2\r\n$1\r\n3\r\n$1\r\n2\r\n", runner.Run("MGET a b"));
    }

    [Theory]
    [InlineData("MSET a")]
    [InlineData("MSET a 1 b")]
    [InlineData("mset a 1 b 2 c")]
    public void MsetWithoutAValueForEveryKeyStoresNothing(string line)
    {
        var runner = new CommandRunner();
        Assert.Equal("-ERR wrong number of arguments for 'mset' command\r\n", runner.Run(line));
        Assert.Equal(0, runner.Store.Count);
    }

    [Fact]
    public void LookupsAreCountedAsHitsAndMisses()
    {
        var runner = new CommandRunner();
        runner.Store.Put("a", "1");
        runner.Run("GET a");
        runner.Run("GET nope");
        runner.Run("MGET a nope a");
        runner.Run("STRLEN nope");
        runner.Run("EXISTS a a nope");
        runner.Run("TYPE a");
        Assert.Equal(6, runner.Hits);
        Assert.Equal(4, runner.Misses);
    }
}
