using KvNode.Raft.Core;
using Xunit;
using static KvNode.Raft.Tests.Scenarios.Say;

namespace KvNode.Raft.Tests.Scenarios;

/// <summary>Section 4 of the scenarios: how much is sent to a peer before it answers.</summary>
public sealed class FlowControlTests
{
    [Fact]
    public void F01_AProbeSendsOneAppendUntilItIsAnswered()
    {
        var node = LeaderOf(new Setup());
        node.Do(core => core.ReportUnreachable(2));
        node.Sent();

        Propose(node, 3);

        var probe = Assert.Single(node.SentTo(2));
        Assert.Equal((MessageType.Append, At(1, 1)), (probe.Type, probe.Entry));
        Assert.Equal((PeerState.Probe, true), (node.Peer(2).State, node.Peer(2).Paused));
        node.Acks(2, 2);
        Assert.Equal(2, node.SentTo(2).Single(append => append.Entries.Length > 0).Entries.Length);
    }

    [Fact]
    public void F02_ReplicationRunsAheadOfTheAnswers()
    {
        var node = LeaderOf(new Setup());

        Propose(node, 3);

        Assert.Equal([1UL, 2, 3], node.SentTo(2).Select(append => append.Entry.Index));
        Assert.Equal((1UL, 5UL, false), (node.Peer(2).Match, node.Peer(2).Next, node.Peer(2).Paused));
    }

    [Fact]
    public void F03_AFullWindowPauses()
    {
        var node = LeaderOf(new Setup { InflightMessagesMax = 4 });

        Propose(node, 4);
        Assert.Equal(4, node.SentTo(2).Length);
        Assert.True(node.Peer(2).Paused);
        Propose(node, 4);

        Assert.Empty(node.SentTo(2));
    }

    [Fact]
    public void F04_AnAckMovesTheWindowOn()
    {
        var size = Setup.Entry(1, 1).Size;
        var node = LeaderOf(new Setup { InflightMessagesMax = 4, MessageBytesMax = size });
        Propose(node, 20);
        Assert.Equal(4, node.SentTo(2).Length);

        node.Acks(2, 2);
        Assert.Equal([6UL], EntriesSentTo(node, 2));
        node.Acks(2, 5);
        Assert.Equal([7UL, 8, 9], EntriesSentTo(node, 2));
        node.Acks(2, 5);
        node.Acks(2, 3);

        Assert.Empty(EntriesSentTo(node, 2));
        Assert.True(node.Peer(2).Paused);
    }

    [Fact]
    public void F05_AHeartbeatResponseGetsOneEmptyAppendThroughAFullWindow()
    {
        var node = LeaderOf(new Setup { InflightMessagesMax = 4 });
        Propose(node, 5);
        node.Sent();
        for (var times = 0; times < 3; times++)
        {
            node.Receives(HeartbeatOk(2, 1));

            var append = Assert.Single(node.SentTo(2));
            Assert.Equal((MessageType.Append, 0), (append.Type, append.Entries.Length));
            Assert.True(node.Peer(2).Paused);
            Propose(node, 1);
            Assert.Empty(node.SentTo(2));
        }
    }

    [Fact]
    public void F06_TheWindowIsLimitedByMessagesAndByBytes()
    {
        var node = LeaderOf(new Setup { InflightMessagesMax = 3, InflightBytesMax = 9000, MessageBytesMax = 1 });
        Propose(node, 10, bytes: 1000);
        Assert.Equal([2UL, 3, 4], EntriesSentTo(node, 2));
        node.Acks(2, 3);
        Assert.Equal([5UL, 6], EntriesSentTo(node, 2));
        for (var acked = 4UL; acked <= 11; acked++)
        {
            node.Acks(2, acked);
        }

        node.Sent();
        Propose(node, 5, bytes: 5000);
        Assert.Equal([12UL, 13], EntriesSentTo(node, 2));
        Assert.True(node.Peer(2).Paused);
        node.Acks(2, 12);
        Assert.Equal([14UL], EntriesSentTo(node, 2));
    }

    [Fact]
    public void F07_AFollowerThatMissedAWindowIsCaughtUp()
    {
        var cluster = new Cluster(3, new Setup { InflightMessagesMax = 3 });
        cluster.Elect(1);
        cluster.Loses = message => message.Type == MessageType.Append && message.To == 3;
        for (var i = 0; i < 5; i++)
        {
            cluster.Propose(1);
        }

        Assert.Equal((6UL, 1UL, true), (cluster[1].Core.Commit, cluster[3].Last, cluster[1].Peer(3).Paused));
        cluster.Heal();
        var before = cluster.Delivered.Count;
        cluster.Tick(Setup.HeartbeatTicks, 1);

        var toAndFrom3 = cluster.Delivered.Skip(before).Where(message => message.To == 3 || message.From == 3).ToArray();
        Assert.Contains(toAndFrom3, message => message.Type == MessageType.Append && message.Entries.Length == 0);
        Assert.Single(toAndFrom3, message => message.Type == MessageType.AppendResponse && message.Reject);
        Assert.Equal((PeerState.Replicate, 6UL), (cluster[1].Peer(3).State, cluster[1].Peer(3).Match));
        cluster.AssertEqualLogs(1, 3);
    }

    [Fact]
    public void F08_AnUnreachablePeerIsProbedFromWhatIsKnownToMatch()
    {
        var node = LeaderOf(new Setup());
        Propose(node, 3);
        node.Acks(2, 3);
        Assert.Equal(5UL, node.Peer(2).Next);

        node.Do(core => core.ReportUnreachable(2));

        Assert.Equal((PeerState.Probe, 3UL, 4UL), (node.Peer(2).State, node.Peer(2).Match, node.Peer(2).Next));
    }

    [Fact]
    public void F09_APeerThatMissedNothingGetsOutOfProbeByAHeartbeatRoundTrip()
    {
        var node = LeaderOf(new Setup());
        node.Do(core => core.ReportUnreachable(2));
        node.Sent();

        node.Receives(HeartbeatOk(2, 1));
        Assert.Equal(0, node.SentOne(MessageType.Append).Entries.Length);
        node.Acks(2, 1);

        Assert.Equal((PeerState.Replicate, 2UL), (node.Peer(2).State, node.Peer(2).Next));
    }

    [Fact]
    public void F10_ASlowFollowerIsSentASnapshotWhenTheLogIsGone()
    {
        var cluster = new Cluster(3, new Setup { InflightMessagesMax = 1 });
        cluster.Elect(1);
        cluster.Loses = message => message.Type == MessageType.Append && message.To == 3;
        for (var i = 0; i < 5; i++)
        {
            cluster.Propose(1);
        }

        cluster[1].Compact(6);
        cluster.Heal();
        cluster.Tick(Setup.HeartbeatTicks, 1);
        cluster.Tick(Setup.HeartbeatTicks, 1);
        cluster.Propose(1);
        cluster.Tick(Setup.HeartbeatTicks, 1);

        Assert.Contains(cluster.Delivered, message => message.Type == MessageType.InstallSnapshot && message.To == 3);
        Assert.Equal(PeerState.Replicate, cluster[1].Peer(3).State);
        cluster.AssertEqualLogs();
    }

    [Fact]
    public void F11_TheRingOfWhatIsInFlightWrapsGrowsAndFreesInOrder()
    {
        var ring = new Inflights(10, 1000);
        for (var i = 1UL; i <= 5; i++)
        {
            ring.Add(i, 100);
        }

        ring.FreeThrough(3);
        Assert.Equal((2, 200L), (ring.Count, ring.Bytes));
        ring.FreeThrough(2);
        Assert.Equal(2, ring.Count);
        for (var i = 6UL; i <= 13; i++)
        {
            Assert.False(ring.IsFull);
            ring.Add(i, 10);
        }

        Assert.Equal((10, 280L, true), (ring.Count, ring.Bytes, ring.IsFull));
        Assert.Throws<InvariantException>(() => ring.Add(14, 1));
        ring.FreeThrough(4);
        Assert.Equal((9, 180L, false), (ring.Count, ring.Bytes, ring.IsFull));
        ring.Add(14, 5000);
        ring.FreeThrough(5);
        Assert.Equal((9, 5080L, true), (ring.Count, ring.Bytes, ring.IsFull));
        ring.FreeThrough(14);
        Assert.Equal((0, 0L, false), (ring.Count, ring.Bytes, ring.IsFull));
        ring.Add(15, 1);
        ring.Clear();
        Assert.Equal((0, 0L), (ring.Count, ring.Bytes));
    }

    [Theory]
    [InlineData(1UL, 5UL, false, 2UL)]
    [InlineData(3UL, 5UL, false, 4UL)]
    [InlineData(3UL, 5UL, true, 9UL)]
    [InlineData(9UL, 10UL, true, 10UL)]
    public void F12_AProbeStartsAfterWhatMatchesOrAfterTheSnapshot(ulong match, ulong next, bool snapshot, ulong probeNext)
    {
        var progress = Replicating(match, next);
        if (snapshot)
        {
            progress.BecomeSnapshot(8);
            Assert.Equal((PeerState.Snapshot, true, 8UL), (progress.State, progress.IsPaused, progress.PendingSnapshot));
        }

        progress.BecomeProbe(snapshot ? 8UL : 0);

        Assert.Equal((PeerState.Probe, match, probeNext), (progress.State, progress.Match, progress.Next));
        Assert.Equal((0UL, 0, false), (progress.PendingSnapshot, progress.Inflights.Count, progress.IsPaused));
    }

    [Theory]
    [InlineData(2UL, false, 3UL, 5UL)]
    [InlineData(3UL, false, 3UL, 5UL)]
    [InlineData(4UL, true, 4UL, 5UL)]
    [InlineData(7UL, true, 7UL, 8UL)]
    public void F12_AnAckOnlyMovesProgressForward(ulong acked, bool news, ulong match, ulong next)
    {
        var progress = Replicating(3, 5);

        Assert.Equal(news, progress.TryAdvance(acked));

        Assert.Equal((match, next), (progress.Match, progress.Next));
    }

    [Theory]
    [InlineData(PeerState.Replicate, 5UL, 10UL, 5UL, 5UL, false, 10UL)]
    [InlineData(PeerState.Replicate, 5UL, 10UL, 4UL, 4UL, false, 10UL)]
    [InlineData(PeerState.Replicate, 5UL, 10UL, 9UL, 9UL, true, 6UL)]
    [InlineData(PeerState.Probe, 0UL, 10UL, 5UL, 5UL, false, 10UL)]
    [InlineData(PeerState.Probe, 0UL, 10UL, 9UL, 9UL, true, 9UL)]
    [InlineData(PeerState.Probe, 0UL, 2UL, 1UL, 1UL, true, 1UL)]
    [InlineData(PeerState.Probe, 0UL, 1UL, 0UL, 0UL, true, 1UL)]
    [InlineData(PeerState.Probe, 0UL, 10UL, 9UL, 2UL, true, 3UL)]
    [InlineData(PeerState.Probe, 0UL, 10UL, 9UL, 0UL, true, 1UL)]
    [InlineData(PeerState.Probe, 5UL, 10UL, 9UL, 2UL, true, 6UL)]
    internal void F12_ARejectionNeverGoesBelowWhatMatches(
        PeerState state, ulong match, ulong next, ulong rejected, ulong hint, bool news, ulong nextAfter)
    {
        var progress = new Progress(2, next, 10, 1000);
        progress.TryAdvance(match);
        if (state == PeerState.Replicate)
        {
            progress = Replicating(match, next);
        }

        Assert.Equal(news, progress.TryRetreat(rejected, hint));

        Assert.Equal((match, nextAfter), (progress.Match, progress.Next));
    }

    private static Node LeaderOf(Setup setup)
    {
        var node = new Node(1, setup);
        node.BecomeLeader(2, 3);
        return node;
    }

    private static void Propose(Node node, int count, int bytes = 3)
    {
        for (var i = 0; i < count; i++)
        {
            Assert.Equal(ProposeResult.Accepted, node.Propose(new byte[bytes]));
        }
    }

    private static ulong[] EntriesSentTo(Node node, ulong peer) =>
        [.. node.SentTo(peer).SelectMany(append => append.Entries.ToArray()).Select(entry => entry.Id.Index)];

    private static Progress Replicating(ulong match, ulong next)
    {
        var progress = new Progress(2, match + 1, 10, 1000);
        progress.TryAdvance(match);
        progress.BecomeReplicate();
        for (; progress.Next < next;)
        {
            progress.Sent(1, 10, 0);
        }

        return progress;
    }
}
