using KvNode.Raft.Core;
using Xunit;
using static KvNode.Raft.Tests.Scenarios.Say;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>Section 5 of the scenarios: snapshots and compaction.</summary>
public sealed class SnapshotTests
{
    private static readonly EntryId Position = At(11, 11);

    [Fact]
    public void S01_AFollowerThatIsBehindStartsAgainAtTheSnapshot()
    {
        var node = new Node(1, new Setup { Term = 11, Log = [1, 1], Membership = Config.Of(1, 2) });

        Assert.True(node.ReceivesSnapshot(2, 11, Position, Config.Of(1, 2, 3)));

        Assert.Equal((Position, Position), (node.Core.Log.Last, node.Core.Log.BeforeFirst));
        Assert.True(node.Core.Log.TryTerm(11, out var term));
        Assert.Equal(11UL, term);
        Assert.Equal((11UL, 11UL), (node.Core.Commit, node.Core.Applied));
        Assert.Equal("1 2 3", node.Core.Membership.Line());
        Assert.Empty(node.Disk.Log);
        Assert.False(node.ReceivesSnapshot(2, 11, Position, Config.Of(1, 2, 3)));
    }

    [Theory]
    [InlineData(1UL)]
    [InlineData(3UL)]
    [InlineData(4UL)]
    public void S02_ASnapshotBringsLearnersAndBothHalves(ulong self)
    {
        var joint = Config.Of(1, 2).WithLearners(4).After(Config.Joint(Config.Remove(1), Config.Add(3)));
        var node = new Node(self, new Setup { Membership = Membership.Empty });

        Assert.True(node.ReceivesSnapshot(2, 11, Position, joint));

        Assert.Equal("2 3|4 & 1 2", node.Core.Membership.Line());
        Assert.Equal(joint, node.Core.Membership);
        node.Campaign();
        Assert.Equal(self == 4 ? CoreRole.Follower : CoreRole.PreCandidate, node.Core.Role);
    }

    [Fact]
    public void S03_ASnapshotMayTurnAVoterIntoALearnerAndBack()
    {
        var node = new Node(3, new Setup());

        Assert.True(node.ReceivesSnapshot(1, 11, Position, Config.Of(1, 2).WithLearners(3)));
        node.Campaign();
        Assert.Equal(CoreRole.Follower, node.Core.Role);

        Assert.True(node.ReceivesSnapshot(1, 11, At(12, 11), Config.Of(1, 2, 3)));
        node.Campaign();
        Assert.Equal(CoreRole.PreCandidate, node.Core.Role);
    }

    [Fact]
    public void S04_ASnapshotWithoutThisNodeIsIgnored()
    {
        var node = new Node(1, new Setup());

        Assert.False(node.ReceivesSnapshot(2, 11, Position, Config.Of(2, 3, 4)));

        Assert.Equal((0UL, 0UL), (node.Core.Commit, node.Last));
        Assert.Equal("1 2 3", node.Core.Membership.Line());
    }

    [Fact]
    public void S05_AnObsoleteSnapshotIsIgnoredAndTheCommitIndexAcked()
    {
        var node = new Node(1, new Setup { Term = 11, Log = [1, 1, 11], Commit = 3 });
        node.Do(_ => { });

        Assert.False(node.ReceivesSnapshot(2, 11, At(2, 1), Config.Of(1, 2, 3)));

        Assert.Equal([1UL, 1, 11], node.Terms);
        Assert.Equal(3UL, node.SentOne(MessageType.AppendResponse).Entry.Index);
    }

    [Fact]
    public void S06_ASnapshotOfWhatTheLogHasOnlyMovesTheCommitIndex()
    {
        var node = new Node(1, new Setup { Term = 2, Log = [1, 1, 2] });

        Assert.False(node.ReceivesSnapshot(2, 2, At(2, 1), Config.Of(1, 2, 3)));

        Assert.Equal((2UL, 2UL), (node.Core.Commit, node.AppliedIndex));
        Assert.Equal([1UL, 1, 2], node.Terms);
    }

    [Fact]
    public void S07_ALeaderTurnsToASnapshotWhenTheFollowersNextEntryIsGone()
    {
        var node = WithAPeerThatNeedsASnapshot();

        Assert.Equal([2UL], node.SnapshotsWanted);
        Assert.Equal((PeerState.Snapshot, true), (node.Peer(2).State, node.Peer(2).Paused));
        Assert.InRange(node.Peer(2).PendingSnapshot, 11UL, node.Core.Applied);
        Assert.DoesNotContain(node.Sent(), message => message.To == 2 && message.Type == MessageType.Append);
    }

    [Fact]
    public void S08_NoSnapshotIsSentToAPeerThatIsNotHeardOf()
    {
        var node = new Node(1, new Setup());
        node.BecomeLeader(2, 3);
        node.Propose();
        node.Acks(3, 2);
        node.Propose();
        node.Acks(3, 3);
        node.Compact(3);
        for (var tick = 0; tick <= 2 * Setup.ElectionTicks; tick++)
        {
            node.Receives(HeartbeatOk(3, 1));
            node.Tick();
        }

        Assert.False(node.Peer(2).RecentlyActive);
        node.Do(core => core.ReportUnreachable(2));
        node.Propose();
        Assert.Empty(node.SnapshotsWanted);

        node.Receives(HeartbeatOk(2, 1));
        Assert.Equal([2UL], node.SnapshotsWanted);
    }

    [Fact]
    public void S09_WhileASnapshotIsUnderWayNothingIsReplicated()
    {
        var node = WithAPeerThatNeedsASnapshot();

        node.Propose();
        node.Receives(HeartbeatOk(2, node.Core.Term));

        Assert.DoesNotContain(node.SentTo(2), message => message.Type == MessageType.Append);
        Assert.Equal([2UL], node.SnapshotsWanted);
    }

    [Fact]
    public void S10_AfterAFailedSnapshotThePeerIsProbedFromTheOldPlace()
    {
        var node = WithAPeerThatNeedsASnapshot();

        node.Do(core => core.ReportSnapshot(2, Position, ok: false));

        var peer = node.Peer(2);
        Assert.Equal((PeerState.Probe, 0UL, 1UL, true), (peer.State, peer.PendingSnapshot, peer.Next, peer.Paused));
        node.Propose();
        Assert.Empty(node.SentTo(2));
        node.SnapshotsWanted.Clear();
        node.Receives(HeartbeatOk(2, node.Core.Term));
        Assert.Equal([2UL], node.SnapshotsWanted);
    }

    [Fact]
    public void S11_AfterASnapshotThePeerIsProbedAfterIt()
    {
        var node = WithAPeerThatNeedsASnapshot();

        node.Do(core => core.ReportSnapshot(2, Position, ok: true));

        var peer = node.Peer(2);
        Assert.Equal((PeerState.Probe, 0UL, 12UL, true), (peer.State, peer.PendingSnapshot, peer.Next, peer.Paused));
        node.Propose();
        Assert.Empty(node.SentTo(2));
        node.Acks(2, 11);
        Assert.Equal((PeerState.Replicate, 11UL), (node.Peer(2).State, node.Peer(2).Match));
        Assert.Equal(Position, node.SentTo(2)[0].Entry);
    }

    [Theory]
    [InlineData(11UL)]
    [InlineData(12UL)]
    public void S12_AnAckThatReachesTheLeadersLogEndsTheSnapshotState(ulong acked)
    {
        var node = WithAPeerThatNeedsASnapshot();

        node.Acks(2, acked);

        var peer = node.Peer(2);
        Assert.Equal((PeerState.Replicate, acked, 0UL), (peer.State, peer.Match, peer.PendingSnapshot));
    }

    [Fact]
    public void S13_ASnapshotAtTheLeadersLastIndexIsEnough()
    {
        var setup = new Setup { Membership = Config.Of(1, 2, 3) };
        var cluster = new Cluster((1, setup), (2, setup));
        cluster.Elect(1);
        cluster.Propose(1);
        cluster[1].Compact(2);
        cluster.Start(3, setup);

        cluster.Tick(Setup.HeartbeatTicks, 1);
        cluster.Tick(Setup.HeartbeatTicks, 1);

        Assert.Equal((PeerState.Replicate, 2UL), (cluster[1].Peer(3).State, cluster[1].Peer(3).Match));
        cluster.AssertEqualLogs();
    }

    [Fact]
    public void S14_ASnapshotOlderThanThePendingOneIsGoodEnoughWhenTheLogReachesIt()
    {
        var setup = new Setup { Term = 11, BeforeFirst = Position, Log = [11, 11], Commit = 13, Applied = 13 };
        var node = NeedingASnapshot(setup);
        Assert.True(node.Peer(2).PendingSnapshot >= 11);

        node.Acks(2, 11);

        Assert.Equal(PeerState.Replicate, node.Peer(2).State);
        var append = node.SentTo(2)[0];
        Assert.Equal((Position, At(12, 11)), (append.Entry, append.Entries.Span[0].Id));
    }

    [Fact]
    public void S15_ASlowNodeIsRestoredFromASnapshot()
    {
        var cluster = new Cluster();
        cluster.Elect(1);
        cluster.Isolate(3);
        for (var i = 0; i < 100; i++)
        {
            cluster.Propose(1);
        }

        cluster[1].Compact(cluster[1].AppliedIndex);
        cluster.Heal();
        cluster.Tick(3 * Setup.HeartbeatTicks, 1);

        Assert.Contains(cluster.Delivered, message => message.Type == MessageType.InstallSnapshot && message.To == 3);
        Assert.Equal(101UL, cluster[3].Core.Commit);
        cluster.AssertEqualLogs();
    }

    [Fact]
    public void S16_ARestartFromASnapshotAppliesOnlyWhatFollowsIt()
    {
        var node = new Node(1, new Setup
        {
            Term = 11,
            BeforeFirst = Position,
            Applied = 11,
            Commit = 13,
            Log = [11, 11, 11],
        });

        node.Do(_ => { });

        Assert.Equal([12UL, 13], node.Applied.Select(entry => entry.Id.Index));
        Assert.Equal((13UL, 14UL), (node.Core.Commit, node.Last));
    }

    [Fact]
    public void S17_TheLogIsCompactedAsFarAsItIsApplied()
    {
        var node = new Node(1, new Setup { Term = 2, Log = [1, 1, 2, 2, 2], Commit = 4 });
        node.Do(_ => { });
        Assert.Equal(4UL, node.Core.Applied);

        node.Compact(3);

        Assert.Equal(At(3, 2), node.Core.Log.BeforeFirst);
        Assert.True(node.Core.Log.TryTerm(3, out var term));
        Assert.Equal(2UL, term);
        Assert.False(node.Core.Log.TryTerm(2, out _));
        Assert.False(node.Core.Log.TryTerm(6, out _));
        Assert.Throws<InvariantException>(() => node.Core.Log.Compact(5));
    }

    [Fact]
    public void S18_ASnapshotThatBecomesDurableInALaterTermStillCounts()
    {
        var node = new Node(1, new Setup()) { HoldDisk = true };
        Assert.True(node.ReceivesSnapshot(2, 11, Position, Config.Of(1, 2, 3)));
        node.Receives(Heartbeat(3, 12));
        Assert.Equal(0UL, node.Core.Applied);

        node.Write();

        Assert.Equal((12UL, 11UL, 11UL), (node.Core.Term, node.Core.Commit, node.Core.Applied));
        Assert.Equal(Position, node.Disk.BeforeFirst);
    }

    [Fact]
    public void S19_ALeaderNeverTakesASnapshotInItsOwnTerm()
    {
        var node = new Node(1, new Setup());
        node.BecomeLeader(2, 3);

        Assert.False(node.ReceivesSnapshot(2, node.Core.Term, At(9, 1), Config.Of(1, 2, 3)));

        Assert.Equal((CoreRole.Follower, 1UL, 1UL), (node.Core.Role, node.Last, node.Core.Commit));
    }

    /// <summary>A leader with everything up to 11 compacted and applied, whose peer 2 has shown an empty log.</summary>
    private static Node WithAPeerThatNeedsASnapshot() =>
        NeedingASnapshot(new Setup { Term = 11, BeforeFirst = Position, Commit = 11, Applied = 11 });

    private static Node NeedingASnapshot(Setup setup)
    {
        var node = new Node(1, setup);
        node.BecomeLeader(3);
        node.Receives(AppendRejected(2, node.Core.Term, node.Last - 1, At(0, 0)));
        return node;
    }
}
