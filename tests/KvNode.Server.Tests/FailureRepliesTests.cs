using KvNode.Raft;
using KvNode.Server.Commands;
using KvNode.Server.Replication;
using KvNode.Server.Resp;
using Xunit;

namespace KvNode.Server.Tests;

public class FailureRepliesTests
{
    private static readonly ProposalOutcome ElsewhereLed = new(ProposalStatus.NotLeader, "h:1");

    [Fact]
    public void MovedNamesTheSlotOfEachCommandsFirstKey() => Assert.Equal(
        "-MOVED 12182 h:1\r\n-MOVED 12739 h:1\r\n-MOVED 3443 h:1\r\n-MOVED 0 h:1\r\n",
        Answer(
            moved: true,
            ElsewhereLed,
            (false, ["SET", "foo", "1"]),
            (true, ["GET", "123456789"]),
            (false, ["DEL", "{user1000}.following", "foo"]),
            (false, ["FLUSHDB"])));

    [Fact]
    public void WithoutMovedTheOriginalsAnswerIsGiven() => Assert.Equal(
        "-TRY h:1\r\n-TRY h:1\r\n",
        Answer(moved: false, ElsewhereLed, (false, ["SET", "foo", "1"]), (true, ["GET", "foo"])));

    [Theory]
    [InlineData(ProposalStatus.NotLeader, "-ERR leader not known\r\n")]
    [InlineData(ProposalStatus.Unknown, "-UNKNOWN ")]
    [InlineData(ProposalStatus.NoLeader, "-CLUSTERDOWN ")]
    public void WhatIsNotAboutALeaderElsewhereIsTheSameInBothModes(ProposalStatus status, string begins)
    {
        var outcome = new ProposalOutcome(status);
        var reply = Answer(moved: true, outcome, (false, ["SET", "foo", "1"]));
        Assert.StartsWith(begins, reply, StringComparison.Ordinal);
        Assert.Equal(Answer(moved: false, outcome, (false, ["SET", "foo", "1"])), reply);
    }

    [Fact]
    public void AReadBesideAWriteOfUnknownFateIsNotOfUnknownFate()
    {
        var replies = Answer(
            moved: false, new ProposalOutcome(ProposalStatus.Unknown), (false, ["SET", "foo", "1"]), (true, ["GET", "foo"]), (false, ["DEL", "foo"]));
        Assert.Equal(["UNKNOWN", "TRYAGAIN", "UNKNOWN"], replies.Split("\r\n").Take(3).Select(static reply => reply[1..].Split(' ')[0]));
    }

    [Fact]
    public void ACommandWithoutKeysIsOfSlotZero()
    {
        Assert.True(CommandTable.Default.TryFind("KEYS"u8, out var keys));
        var (raw, ranges) = Wire.Encode(Wire.Bytes("KEYS"), Wire.Bytes("*"));
        using var reply = new RespWriter();
        new FailureReplies(CommandTable.Default, moved: true).Answer(reply, ElsewhereLed, keys, new CommandArgs(raw, ranges));
        Assert.Equal("-MOVED 0 h:1\r\n", Wire.Text(reply.Written));
    }

    /// <summary>Several batches are executed before the first is answered: what one puts aside waits for its own turn.</summary>
    [Fact]
    public void RepliesPutAsideComeInTheirBatchesTurn()
    {
        var proposer = new Proposer(null!, TimeProvider.System, new FailureReplies(CommandTable.Default, moved: false));
        var (raw, _) = Wire.Encode(Wire.Bytes("GET"), Wire.Bytes("foo"));
        var sink = new Sink();
        var batches = Enumerable.Range(0, 3).Select(_ => new CommandBatch(proposer)).ToArray();
        foreach (var batch in batches)
        {
            batch.AddRead(sink, raw);
            _ = batch.Seal();
        }

        batches[0].Replies.SimpleString("first"u8);
        batches[0].EndRun(0);
        batches[2].Replies.SimpleString("third, put aside"u8);
        Assert.True(batches[2].HandOver(0));
        batches[2].Replies.SimpleString("third"u8);
        batches[2].EndRun(0);
        var committed = new ProposalOutcome(ProposalStatus.Committed);
        batches[0].Complete(committed);
        batches[1].Complete(new ProposalOutcome(ProposalStatus.NoLeader, Reason: "second"));
        batches[2].Complete(committed);

        Assert.Equal(["+first", "-CLUSTERDOWN The cluster is down: second", "+third, put aside", "+third", ""], sink.Replies.Split("\r\n"));
        Assert.Equal(3, sink.Operations);
    }

    private static string Answer(bool moved, ProposalOutcome outcome, params (bool IsRead, string[] Words)[] operations)
    {
        // No engine: the batch is filled, closed and completed by hand.
        var proposer = new Proposer(null!, TimeProvider.System, new FailureReplies(CommandTable.Default, moved));
        var batch = new CommandBatch(proposer);
        var sink = new Sink();
        foreach (var (isRead, words) in operations)
        {
            var (raw, _) = Wire.Encode([.. words.Select(Wire.Bytes)]);
            if (isRead)
            {
                batch.AddRead(sink, raw);
            }
            else
            {
                batch.AddWrite(sink, raw, isLong: false);
            }
        }

        _ = batch.Seal();
        batch.Complete(outcome);
        Assert.Equal(operations.Length, sink.Operations);
        return sink.Replies;
    }

    private sealed class Sink : IReplySink
    {
        public string Replies { get; private set; } = "";

        public int Operations { get; private set; }

        public int Protocol => 2;

        public void CutOff(string reason) => throw new InvalidOperationException(reason);

        public bool Hold(int bytes) => true;

        public void Release(ReadOnlySpan<byte> replies) => Replies += Wire.Text(replies);

        public void Deliver(ReadOnlySpan<byte> replies, int operations)
        {
            Replies += Wire.Text(replies);
            Operations += operations;
        }
    }
}
