using System.Text;
using KvNode.Raft;
using KvNode.Server.Resp;
using Xunit;

namespace KvNode.Server.Tests;

/// <summary>The texts a redis-server 7.0.15 answered, where it has the error; they are what clients match on.</summary>
public sealed class RespErrorTests
{
    private static readonly string A200 = new('a', 200);

    public static TheoryData<string, string> UnknownCommands => new()
    {
        { "foo", "ERR unknown command 'foo', with args beginning with: " },
        { "foo a b", "ERR unknown command 'foo', with args beginning with: 'a' 'b' " },
        { "FoO \"\" \"\"", "ERR unknown command 'FoO', with args beginning with: '' '' " },
        { "\"\"", "ERR unknown command '', with args beginning with: " },
        { $"foo {A200} b", $"ERR unknown command 'foo', with args beginning with: '{A200[..128]}' " },
        { $"foo {A200[..120]} bcdef gh ijk", $"ERR unknown command 'foo', with args beginning with: '{A200[..120]}' 'bcdef' " },
        { $"foo {A200[..124]} b c", $"ERR unknown command 'foo', with args beginning with: '{A200[..124]}' 'b' " },
        { $"foo {A200[..125]} b c", $"ERR unknown command 'foo', with args beginning with: '{A200[..125]}' " },
        { $"{A200} a", $"ERR unknown command '{A200[..128]}', with args beginning with: 'a' " },
        { "foo \"a\\nb\" \"c\\r\\nd\"", "ERR unknown command 'foo', with args beginning with: 'a b' 'c  d' " },
        { "\"fo\\no\"", "ERR unknown command 'fo o', with args beginning with: " },
        { "foo \"a\\x00b\" c", "ERR unknown command 'foo', with args beginning with: 'a' 'c' " },
        { "\"f\\x00o\" c", "ERR unknown command 'f', with args beginning with: 'c' " },
        { "foo \"\\xff\"", "ERR unknown command 'foo', with args beginning with: '\u00ff' " },
    };

    [Theory]
    [MemberData(nameof(UnknownCommands))]
    public void AnUnknownCommandIsRepeatedAsRedisRepeatsIt(string inline, string expected)
    {
        using var reader = new CommandReader(RespLimits.Default);
        Assert.Equal(ReadStatus.Command, reader.TryRead(RespFeeder.Latin1(inline + "\r\n"), out _, out var args));
        using var reply = new RespWriter();

        RespError.UnknownCommand(reply, args);

        Assert.Equal($"-{expected}\r\n", Encoding.Latin1.GetString(reply.Written));
    }

    [Fact]
    public void ManyArgumentsOfAnUnknownCommandAreCut()
    {
        using var reader = new CommandReader(RespLimits.Default);
        var input = RespFeeder.Encode([.. Enumerable.Repeat("x"u8.ToArray(), 5000)]);
        Assert.Equal(ReadStatus.Command, reader.TryRead(input, out _, out var args));
        using var reply = new RespWriter();

        RespError.UnknownCommand(reply, args);

        Assert.Equal(
            $"-ERR unknown command 'x', with args beginning with: {string.Concat(Enumerable.Repeat("'x' ", 32))}\r\n",
            Encoding.Latin1.GetString(reply.Written));
    }

    [Fact]
    public void ComposedErrorsAreWordedAsRedisWordsThem()
    {
        Check(reply => RespError.WrongArity(reply, "GeT"u8), "ERR wrong number of arguments for 'get' command");
        Check(reply => RespError.WrongArity(reply, "CONFIG|GET"), "ERR wrong number of arguments for 'config|get' command");
        Check(reply => RespError.UnknownSubcommand(reply, "config"u8, "FOO"u8), "ERR unknown subcommand 'FOO'. Try CONFIG HELP.");
        Check(reply => RespError.UnknownSubcommand(reply, "CLIENT"u8, "f\noo"u8), "ERR unknown subcommand 'f oo'. Try CLIENT HELP.");
        Check(
            reply => RespError.UnknownSubcommand(reply, "client"u8, Encoding.Latin1.GetBytes(A200)),
            $"ERR unknown subcommand '{A200[..128]}'. Try CLIENT HELP.");
        Check(reply => RespError.HelloOption(reply, "F\no"u8), "ERR Syntax error in HELLO option 'F o'");
        Check(reply => RespError.UnknownClientType(reply, "x"u8), "ERR Unknown client type 'x'");
        Check(reply => RespError.UnknownClientInfo(reply, "foo"u8), "ERR Unrecognized option 'foo'");
        Check(
            reply => RespError.ClientInfoValue(reply, "lib-name"u8),
            "ERR lib-name cannot contain spaces, newlines or special characters.");
        Check(reply => reply.Error(RespError.ExpectedDollar((byte)'x')), "ERR Protocol error: expected '$', got 'x'");
        Check(reply => reply.Error(RespError.ExpectedDollar((byte)'\n')), "ERR Protocol error: expected '$', got ' '");
    }

    [Fact]
    public void ErrorsOfTheClusterSayWhereToGo()
    {
        Check(reply => RespError.TryLeader(reply, "10.0.0.7:4920"), "TRY 10.0.0.7:4920");
        Check(reply => RespError.TryLeader(reply, null), "ERR leader not known");
        Check(reply => RespError.Moved(reply, 12739, "10.0.0.7:4920"), "MOVED 12739 10.0.0.7:4920");
        Check(reply => RespError.Because(reply, "two\r\nlines"), "ERR two  lines");
        Check(reply => RespError.Because(reply, new string('w', 5000)), "ERR " + new string('w', 508));
    }

    [Fact]
    public void FixedTextsAreFrozen()
    {
        Check(RespError.Syntax, "ERR syntax error");
        Check(RespError.NotInteger, "ERR value is not an integer or out of range");
        Check(RespError.DbIndexOutOfRange, "ERR DB index is out of range");
        Check(RespError.WrongType, "WRONGTYPE Operation against a key holding the wrong kind of value");
        Check(RespError.KeyTooLong, $"ERR key is longer than the allowed maximum ({KvNode.Storage.StoreLimits.KeyBytesMax} bytes)");
        Check(RespError.InvalidMultibulkLength, "ERR Protocol error: invalid multibulk length");
        Check(RespError.InvalidBulkLength, "ERR Protocol error: invalid bulk length");
        Check(RespError.MultibulkCountTooBig, "ERR Protocol error: too big mbulk count string");
        Check(RespError.BulkCountTooBig, "ERR Protocol error: too big bulk count string");
        Check(RespError.InlineTooBig, "ERR Protocol error: too big inline request");
        Check(RespError.UnbalancedQuotes, "ERR Protocol error: unbalanced quotes in request");
        Check(RespError.ProtocolUnsupported, "NOPROTO unsupported protocol version");
        Check(RespError.ProtocolNotInteger, "ERR Protocol version is not an integer or out of range");
        Check(RespError.AuthRequired, "NOAUTH Authentication required.");
        Check(RespError.HelloNeedsAuth, "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time");
        Check(RespError.WrongPassword, "WRONGPASS invalid username-password pair or user is disabled.");
        Check(RespError.AuthWithoutPassword, "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?");
        Check(RespError.ClientName, "ERR Client names cannot contain spaces, newlines or special characters.");
        Check(RespError.ClientId, "ERR Invalid client ID");
        Check(RespError.NoSuchClient, "ERR No such client");
        Check(RespError.GetKeysInvalidCommand, "ERR Invalid command specified");
        Check(RespError.GetKeysNoKeys, "ERR The command has no key arguments");
        Check(RespError.GetKeysArity, "ERR Invalid number of arguments specified for command");
        Check(RespError.MaxClients, "ERR max number of clients reached");
        Check(RespError.Loading, "LOADING Redis is loading the dataset in memory");
        Check(RespError.DiskFull, "MISCONF Errors writing to the AOF file: No space left on device");
        Check(RespError.ShuttingDown, "ERR server is shutting down");
        Check(RespError.RaftNotReady, "ERR raft not ready");
        Check(RespError.RaftShutDown, "ERR raft is already shutdown");
        Check(RespError.LeaderUnknown, "ERR leader not known");
        Check(RespError.ProposalTimedOut, "ERR timed out enqueuing operation");
        Check(RespError.OutcomeUnknown, "UNKNOWN leadership lost while committing log, the write may or may not take effect");
        Check(RespError.NothingToSnapshot, "ERR Nothing new to snapshot");
        Check(RespError.ShrinkInProgress, "ERR shrink in progress");
        Check(RespError.LogNotShrinkable, "ERR log is not shrinkable");
        Check(RespError.PeerKnown, "ERR peer already known");
        Check(RespError.PeerUnknown, "ERR peer is unknown");
    }

    [Theory]
    [InlineData(ProposalStatus.NotLeader, "a:1", null, "TRY a:1")]
    [InlineData(ProposalStatus.NotLeader, null, null, "ERR leader not known")]
    [InlineData(ProposalStatus.NoLeader, null, null, "CLUSTERDOWN The cluster is down: no leader was found in time")]
    [InlineData(ProposalStatus.NoLeader, null, "it was removed", "CLUSTERDOWN The cluster is down: it was removed")]
    [InlineData(ProposalStatus.Superseded, null, null, "TRYAGAIN The leader changed before the command was executed")]
    [InlineData(ProposalStatus.Dropped, null, "disk full", "MISCONF Errors writing to the AOF file: disk full")]
    [InlineData(ProposalStatus.Unknown, null, null,
        "UNKNOWN leadership lost while committing log, the write may or may not take effect")]
    public void WhatMayHaveHappenedHasAnErrorThatNothingElseHas(ProposalStatus status, string? leader, string? reason, string text) =>
        Check(reply => RespError.NotExecuted(reply, new ProposalOutcome(status, leader, reason)), text);

    private static void Check(ReadOnlySpan<byte> text, string expected) =>
        Assert.Equal(expected, Encoding.Latin1.GetString(text));

    private static void Check(Action<RespWriter> write, string expected)
    {
        using var reply = new RespWriter();
        write(reply);
        Assert.Equal($"-{expected}\r\n", Encoding.Latin1.GetString(reply.Written));
    }
}
