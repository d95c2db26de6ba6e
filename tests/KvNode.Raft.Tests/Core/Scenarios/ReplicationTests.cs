using KvNode.Raft.Core;
using Xunit;
using static KvNode.Raft.Tests.Scenarios.Say;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>Section 3 of the scenarios, R11-R21 and R33-R36: how logs come to agree, and in which portions.</summary>
public sealed class ReplicationTests
{
    [Theory]
    [InlineData(1UL, new ulong[] { 1 }, 3UL, 2UL)]
    [InlineData(1UL, new ulong[0], 3UL, 1UL)]
    [InlineData(1UL, new ulong[] { 1, 1 }, 3UL, 3UL)]
    [InlineData(1UL, new ulong[] { 1, 1 }, 1UL, 1UL)]
    [InlineData(1UL, new ulong[] { 1, 1, 1 }, 2UL, 2UL)]
    public void R11_AFollowerCommitsNoFurtherThanTheMessageVouchesFor(
        ulong previous, ulong[] entries, ulong leaderCommit, ulong commit)
    {
        var node = new Node(1, new Setup { Term = 1, Log = [1, 1, 1] });

        node.Receives(Append(2, 1, At(previous, 1), entries, leaderCommit));

        Assert.Equal(commit, node.Core.Commit);
    }

    [Fact]
    public void R11_AHeartbeatsCommitNeverGoesBackAndNeverBeyondTheLog()
    {
        var node = new Node(1, new Setup { Term = 1, Log = [1, 1, 1] });
        node.Receives(Append(2, 1, At(3, 1), []));
        node.Receives(Heartbeat(2, 1, commit: 2));
        node.Receives(Heartbeat(2, 1, commit: 1));
        Assert.Equal(2UL, node.Core.Commit);

        Assert.Throws<LogCorruptException>(() => node.Receives(Heartbeat(2, 1, commit: 4)));
    }

    [Fact]
    public void R11_AHeartbeatCommitsNothingThatThisStartHasNotSeenToAgree()
    {
        var node = new Node(1, new Setup { Term = 2, Log = [1, 1, 1] });
        node.Receives(Heartbeat(2, 2, commit: 3));
        Assert.Equal(0UL, node.Core.Commit);

        node.Receives(Append(2, 2, At(1, 1), [2, 2]));
        node.Receives(Heartbeat(2, 2, commit: 3));
        Assert.Equal(3UL, node.Core.Commit);
        Assert.Equal([1UL, 2, 2], node.Terms);
    }

    [Theory]
    [InlineData(0UL, 0UL, 1UL)]
    [InlineData(1UL, 1UL, 1UL)]
    [InlineData(2UL, 2UL, 2UL)]
    public void R12_AnAppendThatContinuesTheLogIsAcked(ulong index, ulong term, ulong acked)
    {
        var node = new Node(1, new Setup { Term = 3, Log = [1, 2], Commit = 1 });

        node.Receives(Append(2, 3, At(index, term), []));

        var ack = node.SentOne(MessageType.AppendResponse);
        Assert.Equal((false, acked), (ack.Reject, ack.Entry.Index));
    }

    [Theory]
    [InlineData(2UL, 1UL, 1UL, 1UL)]
    [InlineData(3UL, 3UL, 2UL, 2UL)]
    public void R12_AnAppendThatDoesNotIsRejectedWithAHint(ulong index, ulong term, ulong hintIndex, ulong hintTerm)
    {
        var node = new Node(1, new Setup { Term = 3, Log = [1, 2], Commit = 1 });

        node.Receives(Append(2, 3, At(index, term), [3]));

        var rejection = node.SentOne(MessageType.AppendResponse);
        Assert.Equal((true, index, At(hintIndex, hintTerm)), (rejection.Reject, rejection.Entry.Index, rejection.Hint));
        Assert.Equal([1UL, 2], node.Terms);
    }

    [Theory]
    [InlineData(2UL, 2UL, new ulong[] { 3 }, new ulong[] { 1, 2, 3 })]
    [InlineData(1UL, 1UL, new ulong[] { 3, 4 }, new ulong[] { 1, 3, 4 })]
    [InlineData(0UL, 0UL, new ulong[] { 1 }, new ulong[] { 1, 2 })]
    [InlineData(0UL, 0UL, new ulong[] { 3 }, new ulong[] { 3 })]
    public void R13_AConflictCutsTheLogAndOnlyAConflict(ulong index, ulong term, ulong[] entries, ulong[] log)
    {
        var node = new Node(1, new Setup { Term = 4, Log = [1, 2] }) { HoldDisk = true };

        node.Receives(Append(2, 4, At(index, term), entries));

        Assert.Equal(log, node.Terms);
        Assert.Equal(log is [1, 2], !node.Disk.Unwritten.Any(write => write.Entries.Length > 0 || write.TruncateFrom != 0));
        node.Write();
        Assert.Equal(log, node.Disk.Log.Select(entry => entry.Id.Term));
    }

    [Fact]
    public void R14_WhatIsCommittedIsNeverCut()
    {
        var node = new Node(1, new Setup { Term = 3, Log = [1, 2], Commit = 2 });

        Assert.Throws<InvariantException>(() => node.Receives(Append(2, 3, At(1, 1), [3])));
    }

    [Fact]
    public void R15_AnAppendBelowTheCommitIndexIsAckedWithIt()
    {
        var node = new Node(1, new Setup { Term = 1, Log = [1, 1, 1], Commit = 2 });

        node.Receives(Append(2, 1, At(0, 0), [1]));

        var ack = node.SentOne(MessageType.AppendResponse);
        Assert.Equal((false, 2UL), (ack.Reject, ack.Entry.Index));
    }

    [Fact]
    public void R16_TheLogsOfFigureSevenConverge()
    {
        ulong[][] logs =
        [
            [1, 1, 1, 4, 4, 5, 5, 6, 6, 6],
            [1, 1, 1, 4, 4, 5, 5, 6, 6],
            [1, 1, 1, 4],
            [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6],
            [1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7],
            [1, 1, 1, 4, 4, 4, 4],
            [1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3],
        ];
        var setup = new Setup { Membership = Config.Of(1, 2, 3, 4, 5, 6, 7), Term = 7 };
        var cluster = new Cluster([.. logs.Select((log, i) => ((ulong)i + 1, setup with { Log = log }))]);

        cluster.Elect(1);
        cluster.Propose(1);
        cluster.Tick(Setup.HeartbeatTicks, 1);

        Assert.All(cluster.Nodes, node => Assert.Equal([1UL, 1, 1, 4, 4, 5, 5, 6, 6, 6, 8, 8], node.Terms));
        cluster.AssertEqualLogs();
    }

    [Theory]
    [InlineData(6UL, 5UL, 6UL)]
    [InlineData(6UL, 4UL, 4UL)]
    [InlineData(6UL, 3UL, 4UL)]
    [InlineData(6UL, 2UL, 1UL)]
    [InlineData(6UL, 1UL, 1UL)]
    [InlineData(5UL, 5UL, 5UL)]
    [InlineData(5UL, 3UL, 4UL)]
    [InlineData(4UL, 4UL, 4UL)]
    [InlineData(3UL, 3UL, 3UL)]
    [InlineData(3UL, 2UL, 1UL)]
    [InlineData(2UL, 1UL, 1UL)]
    [InlineData(1UL, 1UL, 1UL)]
    [InlineData(0UL, 0UL, 0UL)]
    public void R17_ARejectionMovesTheProbeToTheLastEntryThatCanAgree(ulong hintIndex, ulong hintTerm, ulong probed)
    {
        ulong[] log = [1, 3, 3, 3, 5, 5, 5];
        var node = new Node(1, new Setup { Term = 5, Log = log });
        node.BecomeLeader();
        Assert.Equal(8UL, node.Peer(2).Next);

        node.Receives(AppendRejected(2, 6, previous: 7, At(hintIndex, hintTerm)));

        var probe = node.SentOne(MessageType.Append);
        Assert.Equal(At(probed, probed == 0 ? 0 : log[probed - 1]), probe.Entry);
    }

    [Theory]
    [InlineData(new ulong[] { 1, 3, 3, 3, 5, 5, 5 }, new ulong[] { 1, 2, 2, 2, 2, 2, 2, 4, 4 }, 0UL)]
    [InlineData(new ulong[] { 1, 1, 2, 2, 3, 3, 4, 4, 5 }, new ulong[] { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 }, 0UL)]
    [InlineData(new ulong[] { 1, 1, 1, 1, 1, 5 }, new ulong[] { 1, 1, 1, 1, 2, 2, 3, 3, 4, 4 }, 0UL)]
    [InlineData(new ulong[] { 1, 2, 3, 4, 5, 6 }, new ulong[0], 0UL)]
    [InlineData(new ulong[] { 1, 1, 1, 2, 5 }, new ulong[] { 1, 3, 3, 3, 4 }, 2UL)]
    public void R17_ThereIsAtMostOneProbePerTermOfTheLeader(ulong[] leader, ulong[] follower, ulong compacted)
    {
        var setup = new Setup { Membership = Config.Of(1, 2), Term = 6 };
        var behind = setup with
        {
            BeforeFirst = compacted == 0 ? default : At(compacted, 1),
            Log = follower,
            Commit = compacted,
            Applied = compacted,
        };
        var cluster = new Cluster((1, setup with { Log = leader }), (2, behind));

        cluster.Elect(1);

        var rejections = cluster.Delivered.Count(message => message.Type == MessageType.AppendResponse && message.Reject);
        Assert.InRange(rejections, 1, leader.Distinct().Count());
        Assert.Equal(cluster[1].Core.Log.Last, cluster[2].Core.Log.Last);
    }

    [Theory]
    [InlineData(new ulong[] { 2, 5, 5, 5, 5 }, 9UL, 3UL, 1UL)]
    [InlineData(new ulong[] { 2, 5, 5, 5, 5 }, 9UL, 5UL, 5UL)]
    [InlineData(new ulong[] { 2, 5, 5, 5, 5 }, 9UL, 1UL, 0UL)]
    [InlineData(new ulong[] { 2, 5, 5, 5, 5 }, 3UL, 4UL, 1UL)]
    [InlineData(new ulong[] { 2, 5, 5, 5, 5 }, 3UL, 6UL, 3UL)]
    [InlineData(new ulong[] { 1, 1, 1 }, 5UL, 4UL, 3UL)]
    [InlineData(new ulong[0], 5UL, 4UL, 0UL)]
    public void R18_TheHintSkipsEntriesOfTermsTheLeaderCannotHaveThere(
        ulong[] log, ulong previousIndex, ulong previousTerm, ulong hint)
    {
        var node = new Node(1, new Setup { Term = 6, Log = log });

        node.Receives(Append(2, 6, At(previousIndex, previousTerm), []));

        var rejection = node.SentOne(MessageType.AppendResponse);
        Assert.Equal((true, At(hint, hint == 0 ? 0 : log[hint - 1])), (rejection.Reject, rejection.Hint));
    }

    [Fact]
    public void R19_ALateRejectionNeverTakesAProbeBelowWhatIsKnownToMatch()
    {
        var node = new Node(1, new Setup());
        node.BecomeLeader(2, 3);
        for (var i = 0; i < 3; i++)
        {
            node.Propose();
        }

        node.Acks(2, 3);
        node.Do(core => core.ReportUnreachable(2));
        node.Sent();
        node.Receives(AppendRejected(2, 1, previous: 3, At(1, 1)));

        Assert.Equal((3UL, 4UL), (node.Peer(2).Match, node.Peer(2).Next));
        Assert.All(node.Sent(MessageType.Append), append => Assert.Equal(At(3, 1), append.Entry));
    }

    [Theory]
    [InlineData(1UL)]
    [InlineData(2UL)]
    public void R20_AStaleAckChangesNothing(ulong acked)
    {
        var node = new Node(1, new Setup());
        node.BecomeLeader(2, 3);
        node.Propose();
        node.Propose();
        node.Acks(2, 2);
        node.Sent();
        var before = node.Peer(2);

        node.Acks(2, acked);

        Assert.Equal(before, node.Peer(2));
        Assert.Empty(node.Sent());
    }

    [Theory]
    [InlineData(3UL, true, 0UL, 3UL, PeerState.Probe, 0)]
    [InlineData(2UL, true, 0UL, 2UL, PeerState.Probe, 1)]
    [InlineData(3UL, false, 3UL, 4UL, PeerState.Replicate, 0)]
    [InlineData(2UL, false, 2UL, 4UL, PeerState.Replicate, 1)]
    [InlineData(0UL, false, 0UL, 4UL, PeerState.Replicate, 1)]
    internal void R21_WhatAnAnswerDoesToAProbe(
        ulong index, bool reject, ulong match, ulong next, PeerState state, int entriesSent)
    {
        var node = new Node(1, new Setup { Term = 1, Log = [1, 1] });
        node.BecomeLeader();
        Assert.Equal((0UL, 3UL, PeerState.Probe), (node.Peer(2).Match, node.Peer(2).Next, node.Peer(2).State));

        node.Receives(reject ? AppendRejected(2, 2, index, At(1, 1)) : AppendOk(2, 2, index));

        var peer = node.Peer(2);
        Assert.Equal((match, next, state), (peer.Match, peer.Next, peer.State));
        Assert.Equal(index == 3 && !reject ? 3UL : 0, node.Core.Commit);
        Assert.Equal(entriesSent, node.SentTo(2).Count(append => append.Entries.Length > 0));
    }

    [Fact]
    public void R33_AnAppendHoldsAsManyEntriesAsFitAndAtLeastOne()
    {
        var size = Setup.Entry(1, 1).Size;
        var setup = new Setup { Term = 1, Log = [.. Enumerable.Repeat(1UL, 9)], MessageBytesMax = 3 * size };
        var node = new Node(1, setup);
        node.BecomeLeader();
        node.Receives(AppendRejected(2, 2, 9, At(0, 0)));
        Assert.Equal(3, node.SentOne(MessageType.Append).Entries.Length);

        node.Acks(2, 3);
        Assert.All(node.SentTo(2)[..2], append => Assert.Equal(3, append.Entries.Length));
        node.Acks(2, 10);
        node.Sent();
        node.Propose(new byte[100 * size]);
        Assert.Equal(1, node.SentTo(2).Single().Entries.Length);
    }

    [Fact]
    public void R34_ARestartHandsOutCommittedEntriesInPages()
    {
        var size = Setup.Entry(1, 1).Size;
        var log = Enumerable.Repeat(1UL, 9).ToArray();
        var node = new Node(1, new Setup { Term = 1, Log = log, Commit = 8, ApplyBytesMax = 3 * size }) { HoldApply = true };
        node.Do(_ => { });
        Assert.Equal(8UL, node.Core.Commit);
        var pages = 0;
        for (; node.ToApply.Count > 0; pages++)
        {
            Assert.InRange(node.ToApply.Count, 1, 3);
            Assert.Equal(8UL, node.Core.Commit);
            node.Apply();
        }

        Assert.Equal((3, 8UL), (pages, node.AppliedIndex));
    }

    [Fact]
    public void R35_TheNextPageWaitsForRoomInTheStateMachine()
    {
        var node = new Node(1, new Setup { Membership = Config.Of(1), ApplyBytesMax = 1000 });
        node.BecomeLeader();
        node.HoldApply = true;
        for (var i = 0; i < 5; i++)
        {
            node.Propose(new byte[400]);
        }

        Assert.Equal(6UL, node.Core.Commit);
        Assert.InRange(node.ToApply.Sum(entry => entry.Size), 400, 1000 + 432);
        var waiting = node.ToApply.Count;
        node.Apply(1);
        Assert.Equal(waiting, node.ToApply.Count);
        while (node.ToApply.Count > 0)
        {
            node.Apply(1);
        }

        Assert.Equal(6UL, node.AppliedIndex);
    }

    [Fact]
    public void R36_WhatQueuedUpForAThrottledFollowerGoesInOneMessage()
    {
        var node = new Node(1, new Setup { InflightMessagesMax = 1 });
        node.BecomeLeader(2, 3);
        node.Propose();
        Assert.Equal(1, node.SentTo(2).Single().Entries.Length);
        for (var i = 0; i < 5; i++)
        {
            node.Propose();
        }

        Assert.Empty(node.SentTo(2));
        node.Acks(2, 2);

        Assert.Equal(5, node.SentTo(2).Single(append => append.Entries.Length > 0).Entries.Length);
    }
}
