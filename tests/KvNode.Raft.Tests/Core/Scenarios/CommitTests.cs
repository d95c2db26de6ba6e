using KvNode.Raft.Core;
using Xunit;
using static KvNode.Raft.Tests.Scenarios.Say;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>Section 3 of the scenarios, R01-R10 and R22-R32: the leader's side, what is committed and when.</summary>
public sealed class CommitTests
{
    [Fact]
    public void R01_ALeaderSendsHeartbeatsWithoutEntries()
    {
        var node = new Node(1, new Setup());
        node.BecomeLeader(2);

        node.Tick(Setup.HeartbeatTicks - 1);
        Assert.Empty(node.Sent());
        node.Tick();

        var sent = node.Sent();
        Assert.All(sent, beat => Assert.Equal((MessageType.Heartbeat, 0), (beat.Type, beat.Entries.Length)));
        Assert.Equal([(2UL, 1UL), (3UL, 0UL)], sent.Select(beat => (beat.To, beat.Commit)));
    }

    [Fact]
    public void R02_AProposalIsAppendedAndSentToEveryFollower()
    {
        var node = new Node(1, new Setup());
        node.BecomeLeader(2, 3);
        node.HoldDisk = true;

        node.Propose("some data");

        Assert.Equal((2UL, 1UL), (node.Last, node.Core.Commit));
        var entry = Assert.Single(Assert.Single(node.Disk.Unwritten).Entries.ToArray());
        Assert.Equal("some data"u8, entry.Payload.Span);
        var sent = node.Sent();
        Assert.Equal([2UL, 3UL], sent.Select(append => append.To));
        Assert.All(sent, append => Assert.Equal(
            (MessageType.Append, At(1, 1), 1UL, At(2, 1)),
            (append.Type, append.Entry, append.Commit, append.Entries.Span[0].Id)));
    }

    [Fact]
    public void R03_ALeaderSendsBeforeItsOwnWriteAndCountsItselfAfterIt()
    {
        var node = new Node(1, new Setup());
        node.BecomeLeader(2, 3);
        node.HoldDisk = true;

        node.Propose();
        Assert.Equal(2, node.Sent(MessageType.Append).Length);
        node.Acks(2, 2);
        Assert.Equal((1UL, 1UL), (node.Core.Commit, node.Core.Durable));
        node.Write();

        Assert.Equal((2UL, 2UL), (node.Core.Commit, node.Core.Durable));
    }

    [Theory]
    [InlineData(1, 0, true)]
    [InlineData(3, 0, false)]
    [InlineData(3, 1, true)]
    [InlineData(3, 2, true)]
    [InlineData(5, 0, false)]
    [InlineData(5, 1, false)]
    [InlineData(5, 2, true)]
    [InlineData(5, 3, true)]
    [InlineData(5, 4, true)]
    public void R04_AMajorityOfAcksCommits(int voters, int acks, bool committed)
    {
        var node = new Node(1, new Setup { Membership = Config.Of(Ids(voters)) });
        node.BecomeLeader(Ids(voters).AsSpan(1));

        node.Propose();
        for (var i = 0; i < acks; i++)
        {
            node.Acks((ulong)i + 2, 2);
        }

        Assert.Equal(committed ? 2UL : 1, node.Core.Commit);
        Assert.Equal(committed ? 2UL : 1, node.AppliedIndex);
    }

    [Fact]
    public void R05_FollowersLearnTheCommitIndex()
    {
        var node = new Node(1, new Setup());
        node.BecomeLeader(2, 3);
        node.Propose();
        node.Acks(2, 2);
        node.Acks(3, 2);
        node.Sent();

        node.Propose();
        Assert.All(node.Sent(MessageType.Append), append => Assert.Equal(2UL, append.Commit));

        var cluster = new Cluster();
        cluster.Elect(1);
        cluster.Propose(1);
        cluster.Tick(Setup.HeartbeatTicks, 1);
        Assert.All(cluster.Nodes, follower => Assert.Equal((2UL, 2UL), (follower.Core.Commit, follower.AppliedIndex)));
    }

    [Fact]
    public void R06_EntriesOfEarlierTermsAreCommittedAndAppliedWithTheCurrentOne()
    {
        var node = new Node(1, new Setup { Term = 2, Log = [1, 2] });
        node.BecomeLeader();
        node.Propose("new");
        Assert.Empty(node.Applied);

        node.Acks(2, 4);

        Assert.Equal([At(1, 1), At(2, 2), At(3, 3), At(4, 3)], node.Applied.Select(entry => entry.Id));
    }

    [Fact]
    public void R07_AnOldTermsEntryIsNotCommittedByCountingCopies()
    {
        var node = new Node(1, new Setup { Term = 2, Log = [1, 2] });
        node.BecomeLeader();

        foreach (var (ack, commit) in new[] { (1UL, 0UL), (2UL, 0UL), (3UL, 3UL) })
        {
            node.Acks(2, ack);
            Assert.Equal(commit, node.Core.Commit);
        }
    }

    [Theory]
    [InlineData(new ulong[0], new ulong[0], 2UL)]
    [InlineData(new ulong[] { 1, 2 }, new ulong[0], 4UL)]
    [InlineData(new ulong[] { 1, 2 }, new ulong[] { 0, 0 }, 0UL)]
    [InlineData(new ulong[] { 1, 2 }, new ulong[] { 1, 0 }, 0UL)]
    [InlineData(new ulong[] { 1, 2 }, new ulong[] { 2, 2 }, 0UL)]
    [InlineData(new ulong[] { 1, 2 }, new ulong[] { 3, 0 }, 3UL)]
    [InlineData(new ulong[] { 1, 2 }, new ulong[] { 2, 4 }, 4UL)]
    [InlineData(new ulong[] { 1, 2 }, new ulong[] { 4, 4 }, 4UL)]
    [InlineData(new ulong[] { 1, 1 }, new ulong[] { 4, 0, 0 }, 0UL)]
    [InlineData(new ulong[] { 1, 1 }, new ulong[] { 2, 2, 2 }, 0UL)]
    [InlineData(new ulong[] { 1, 1 }, new ulong[] { 2, 4, 0 }, 0UL)]
    [InlineData(new ulong[] { 1, 1 }, new ulong[] { 3, 4, 0 }, 3UL)]
    [InlineData(new ulong[] { 1, 1 }, new ulong[] { 4, 4, 0 }, 4UL)]
    [InlineData(new ulong[] { 1, 1 }, new ulong[] { 4, 4, 4 }, 4UL)]
    public void R08_TheQuorumsIndexIsCommittedIfItsTermIsCurrent(ulong[] log, ulong[] acks, ulong commit)
    {
        var node = new Node(1, new Setup { Membership = Config.Of(Ids(acks.Length + 1)), Term = 2, Log = log });
        node.BecomeLeader();
        node.Propose();

        for (var i = 0; i < acks.Length; i++)
        {
            node.Acks((ulong)i + 2, acks[i]);
        }

        Assert.Equal(commit, node.Core.Commit);
    }

    [Fact]
    public void R09_ANewLeaderCommitsNothingBeforeAnEntryOfItsTerm() => NewLeaderAfterAPartition(filtered: true);

    [Fact]
    public void R10_ANewLeaderCommitsOldEntriesWithItsFirstOne() => NewLeaderAfterAPartition(filtered: false);

    [Theory]
    [InlineData(CoreRole.Follower)]
    [InlineData(CoreRole.PreCandidate)]
    [InlineData(CoreRole.Candidate)]
    internal void R22_AProposalWithoutALeaderIsRefused(CoreRole role)
    {
        var node = new Node(1, new Setup());
        switch (role)
        {
            case CoreRole.PreCandidate:
                node.BecomePreCandidate();
                break;
            case CoreRole.Candidate:
                node.BecomeCandidate();
                break;
            default:
                break;
        }

        Assert.Equal(ProposeResult.NotLeader, node.Propose());
        Assert.Equal(0UL, node.Last);
    }

    /// <summary>Forwarding is the driver's: the core refuses and names the leader.</summary>
    [Fact]
    public void R23_AFollowerRefusesAProposalAndNamesTheLeader()
    {
        var node = new Node(1, new Setup());
        node.BecomeFollower(2, 1);

        Assert.Equal(ProposeResult.NotLeader, node.Propose());
        Assert.Equal(2UL, node.Core.Leader);
        Assert.Empty(node.Sent());
    }

    [Fact]
    public void R24_ARemovedLeaderRefusesProposals()
    {
        var node = new Node(1, new Setup());
        node.BecomeLeader(2, 3);
        node.ProposeChange(Config.Change(Config.Remove(1)));
        node.Acks(2, 2);
        node.Acks(3, 2);

        Assert.Equal("2 3", node.Core.Membership.Line());
        Assert.Equal(ProposeResult.Transferring, node.Propose());
        node.Acks(2, 3);
        node.Acks(3, 3);
        Assert.Equal(ProposeResult.NotLeader, node.Propose());
    }

    [Fact]
    public void R25_TooMuchUncommittedIsRefusedUntilItIsApplied()
    {
        const int Count = 1024;
        var size = Setup.Entry(1, 1).Size - Setup.Entry(1, 1).Payload.Length + 8;
        var node = new Node(1, new Setup { UncommittedBytesMax = Count * size });
        node.BecomeLeader(2, 3);

        var accepted = 0;
        while (node.Propose(new byte[8]) == ProposeResult.Accepted)
        {
            accepted++;
        }

        Assert.InRange(accepted, Count, Count + 1);
        Assert.Equal(ProposeResult.Full, node.Propose(new byte[8]));
        node.HoldApply = true;
        node.Acks(2, node.Last);
        Assert.Equal(ProposeResult.Full, node.Propose(new byte[8]));
        node.Apply();

        Assert.Equal(ProposeResult.Accepted, node.Propose(new byte[Count * size * 2]));
        Assert.Equal(ProposeResult.Full, node.Propose(new byte[8]));
        Assert.Equal(ProposeResult.Accepted, node.Core.Propose(EntryKind.Empty, default, out _));
    }

    [Fact]
    public void R25_WhatIsUncommittedIsCountedAnewInANewTerm()
    {
        var node = new Node(1, new Setup { UncommittedBytesMax = 1000 });
        node.BecomeLeader(2, 3);
        node.Propose(new byte[2000]);
        Assert.Equal(ProposeResult.Full, node.Propose());

        node.Receives(Append(2, 2, At(1, 1), [2], commit: 2));
        node.Tick(Setup.ElectionTicks);
        node.BecomeLeader();

        Assert.Equal(ProposeResult.Accepted, node.Propose());
    }

    [Fact]
    public void R26_TheLogOfALeaderThatCannotCommitStaysBounded()
    {
        var cluster = new Cluster(3, new Setup { UncommittedBytesMax = 4000 });
        cluster.Elect(1);
        cluster.Lose(MessageType.AppendResponse);
        for (var i = 0; i < 100; i++)
        {
            cluster[1].Propose(new byte[400]);
            cluster.Settle();
        }

        Assert.True(cluster[1].Core.Log.BytesInMemory < 4000 + 1000);
        Assert.Equal(ProposeResult.Full, cluster[1].Propose(new byte[400]));
        cluster.Heal();
        cluster.Tick(2 * Setup.HeartbeatTicks, 1);

        Assert.Equal(cluster[1].Last, cluster[1].Core.Commit);
        cluster.Propose(1);
        cluster.AssertEqualLogs(1);
    }

    [Fact]
    public void R27_ALeadersOwnCopyCountsOnlyAsFarAsItIsDurable()
    {
        var node = new Node(1, new Setup { Membership = Config.Of(1) });
        node.BecomeLeader();
        node.HoldDisk = true;
        for (var i = 0; i < 5; i++)
        {
            node.Propose();
        }

        Assert.Equal((6UL, 1UL, 1UL), (node.Last, node.Core.Durable, node.Core.Commit));
        node.Write(2);
        Assert.Equal((3UL, 3UL), (node.Core.Durable, node.Core.Commit));
        node.Write();
        Assert.Equal((6UL, 6UL), (node.Core.Durable, node.Core.Commit));
    }

    [Fact]
    public void R28_AHeartbeatResponseRepairsAFollowerThatIsBehind()
    {
        var node = new Node(1, new Setup());
        node.BecomeLeader();
        for (var times = 0; times < 2; times++)
        {
            node.Receives(HeartbeatOk(2, 1));
            Assert.Equal(At(1, 1), node.SentOne(MessageType.Append).Entries.Span[0].Id);
        }

        node.Acks(2, 1);
        node.Sent();
        node.Receives(HeartbeatOk(2, 1));
        Assert.Empty(node.Sent());

        node.Do(core => core.ReportUnreachable(2));
        node.Receives(HeartbeatOk(2, 1));
        var append = node.SentOne(MessageType.Append);
        Assert.Equal((At(1, 1), 0), (append.Entry, append.Entries.Length));
    }

    [Fact]
    public void R29_APausedProbeResumesWithTheResponseNotWithTheHeartbeat()
    {
        var node = new Node(1, new Setup());
        node.BecomeLeader();
        Assert.True(node.Peer(2).Paused);

        node.Tick(Setup.HeartbeatTicks);
        Assert.DoesNotContain(node.Sent(), message => message.Type == MessageType.Append);
        Assert.True(node.Peer(2).Paused);
        node.Receives(HeartbeatOk(2, 1));

        Assert.Equal(2UL, node.SentOne(MessageType.Append).To);
    }

    [Fact]
    public void R30_AHeartbeatsCommitIsCappedAtWhatTheFollowerIsKnownToHave()
    {
        var cluster = new Cluster();
        cluster.Elect(1);
        cluster.Loses = message => message.Type == MessageType.AppendResponse && message.From == 3;
        cluster.Propose(1);
        Assert.Equal((2UL, 1UL), (cluster[1].Core.Commit, cluster[1].Peer(3).Match));
        var matched = cluster.Delivered.Count;

        cluster.Tick(Setup.HeartbeatTicks, 1);

        var beats = cluster.Delivered.Skip(matched).Where(message => message.Type == MessageType.Heartbeat);
        Assert.Equal([(2UL, 2UL), (3UL, 1UL)], beats.Select(beat => (beat.To, beat.Commit)));
        cluster.Heal();
        cluster.Propose(1);
        cluster.Tick(2 * Setup.HeartbeatTicks, 1);
        cluster.AssertEqualLogs();
    }

    [Fact]
    public void R31_ALearnerReplicatesAndDoesNotCount()
    {
        var setup = new Setup { Membership = Config.Of(1).WithLearners(2) };
        var cluster = new Cluster((1, setup), (2, setup));
        cluster.Campaign(1);
        cluster.Isolate(2);
        cluster.Propose(1);
        Assert.Equal(2UL, cluster[1].Core.Commit);

        cluster.Heal();
        cluster.Tick(2 * Setup.HeartbeatTicks, 1);
        cluster.AssertEqualLogs();

        var two = new Node(1, new Setup { Membership = Config.Of(1, 2).WithLearners(3) });
        two.BecomeLeader();
        two.Acks(3, 1);
        Assert.Equal(0UL, two.Core.Commit);
    }

    [Fact]
    public void R32_ASingleVoterCommitsWhatIsOnItsDisk()
    {
        var node = new Node(1, new Setup { Membership = Config.Of(1) });
        node.BecomeLeader();

        node.Propose("a");
        node.Propose("b");

        Assert.Equal((3UL, 3UL), (node.Core.Commit, node.AppliedIndex));
        Assert.Empty(node.Sent());
    }

    private static void NewLeaderAfterAPartition(bool filtered)
    {
        var cluster = new Cluster(5);
        cluster.Elect(1);
        cluster.Cut(1, 3);
        cluster.Cut(1, 4);
        cluster.Cut(1, 5);
        cluster.Propose(1);
        cluster.Propose(1);
        Assert.Equal((1UL, 3UL), (cluster[1].Core.Commit, cluster[2].Last));

        cluster.Heal();
        if (filtered)
        {
            cluster.Lose(MessageType.Append);
        }

        cluster.Elect(2);
        Assert.Equal(filtered ? 1UL : 4, cluster[2].Core.Commit);

        cluster.Heal();
        cluster.Tick(Setup.HeartbeatTicks, 2);
        cluster.Propose(2);
        cluster.Tick(Setup.HeartbeatTicks, 2);
        Assert.Equal(5UL, cluster[2].Core.Commit);
        cluster.AssertEqualLogs();
    }

    private static ulong[] Ids(int count) => [.. Enumerable.Range(1, count).Select(id => (ulong)id)];
}
