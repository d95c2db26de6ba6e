using KvNode.Storage;
using Xunit;

namespace KvNode.Server.Tests;

public class CommandKeyTests
{
    [Fact]
    public void DelCountsEachKeyItDeletedOnce()
    {
        var runner = new CommandRunner();
        runner.Store.Put("a", "1");
        runner.Store.Put("h", "1", ValueTag.Hash);
        Assert.Equal(":2\r\n", runner.Run("DEL a a nope h"));
        Assert.Equal(0, runner.Store.Count);
    }

    [Fact]
    public void ExistsCountsAKeyAsOftenAsItIsNamed()
    {
        var runner = new CommandRunner();
        runner.Store.Put("a", "1");
        Assert.Equal(":3\r\n", runner.Run("EXISTS a a nope a"));
    }

    [Theory]
    [InlineData("DELIF ell a b c", ":2\r\n", "c,d,h")]
    [InlineData("DELIF ell a a a", ":1\r\n", "b,c,d,h")]
    [InlineData("DELIF \"\" a c nope h", ":2\r\n", "b,d,h")]
    [InlineData("DELIF zzz a b c d", ":0\r\n", "a,b,c,d,h")]
    [InlineData("DELIF hello-and-longer a", ":0\r\n", "a,b,c,d,h")]
    [InlineData("DELIF ell", "-ERR wrong number of arguments for 'delif' command\r\n", "a,b,c,d,h")]
    public void DelifDeletesStringsThatContainTheNeedle(string line, string reply, string left)
    {
        var runner = new CommandRunner();
        runner.Store.Put("a", "hello");
        runner.Store.Put("b", "bell");
        runner.Store.Put("c", "");
        runner.Store.Put("d", "well");
        runner.Store.Put("h", "hello", ValueTag.Hash);
        Assert.Equal(reply, runner.Run(line));
        Assert.Equal(left, string.Join(',', runner.Store.Keys.Select(key => Wire.Text(key))));
    }

    [Theory]
    [InlineData(ValueTag.String, "string")]
    [InlineData(ValueTag.ExpiringString, "string")]
    [InlineData(ValueTag.Hash, "hash")]
    [InlineData(ValueTag.List, "list")]
    [InlineData(ValueTag.Set, "set")]
    [InlineData(ValueTag.SortedSet, "zset")]
    public void TypeNamesWhatTheKeyHolds(ValueTag tag, string name)
    {
        var runner = new CommandRunner();
        runner.Store.Put("a", "1", tag);
        Assert.Equal($"+{name}\r\n", runner.Run("TYPE a"));
        Assert.Equal("+none\r\n", runner.Run("TYPE nope"));
    }

    [Theory]
    [InlineData("FLUSHDB", true)]
    [InlineData("flushall async", true)]
    [InlineData("FLUSHDB SYNC", true)]
    [InlineData("FLUSHDB FOO", false)]
    [InlineData("FLUSHALL ASYNC SYNC", false)]
    public void FlushEmptiesTheKeyspaceOrRefusesItsOptions(string line, bool flushed)
    {
        var runner = new CommandRunner();
        runner.Store.Put("a", "1");
        Assert.Equal(flushed ? "+OK\r\n" : "-ERR syntax error\r\n", runner.Run(line));
        Assert.Equal(flushed ? ":0\r\n" : ":1\r\n", runner.Run("DBSIZE"));
    }
}
