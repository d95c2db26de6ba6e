using KvNode.Raft.Core;
using Xunit;

namespace KvNode.Raft.Tests.Core.Units;

/// <summary>A follower comes back and has less than it acknowledged, in the term in which it did.</summary>
public sealed class LostTailTests
{
    [Fact]
    public void WhatMayBeLostIsSentAgainAndNothingElse()
    {
        var (cluster, copy) = Acknowledged(mayLoseTail: true);
        cluster.Nodes[3].GoBackTo(copy);
        cluster[1].ReportConnected(3);
        cluster.Settle();
        Assert.Equal(7ul, cluster[1].Commit);
        Assert.Equal((7ul, 7ul), (cluster[3].Commit, cluster[3].Applied));
        Assert.Equal(cluster.Nodes[1].State, cluster.Nodes[3].State);
        Assert.Equal([3ul, 4, 5, 6, 7], EntriesSentTo(cluster, 3));
        Assert.Equal((PeerState.Replicate, 7ul), (View(cluster, 3).State, View(cluster, 3).Match));
    }

    [Fact]
    public void WhatMayNotBeLostIsMissedBeforeItIsSentAgain()
    {
        var (cluster, copy) = Acknowledged(mayLoseTail: false);
        cluster.Nodes[3].GoBackTo(copy);
        cluster[1].ReportConnected(3);
        cluster.Propose(1);
        var lost = Assert.Throws<LogCorruptException>(cluster.Settle);
        Assert.Contains("ends at 2, though this node acknowledged entries up to 7", lost.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AReconnectedPeerIsAskedOnceAndSentNothing()
    {
        var (cluster, _) = Acknowledged(mayLoseTail: false);
        cluster[1].ReportConnected(3);
        Assert.Equal((PeerState.Probe, 0ul, 8ul), (View(cluster, 3).State, View(cluster, 3).Match, View(cluster, 3).Next));
        cluster.Settle();
        Assert.Empty(EntriesSentTo(cluster, 3));
        var sent = cluster.Sent.Where(static message => message.To == 3).Select(static message => message.Type);
        Assert.Equal([MessageType.Heartbeat, MessageType.Append], sent);
        Assert.Equal((PeerState.Replicate, 7ul), (View(cluster, 3).State, View(cluster, 3).Match));
    }

    [Fact]
    public void AnAckOfTheConnectionBeforeSaysNothingOnTheNewOne()
    {
        var (cluster, copy) = Acknowledged(mayLoseTail: true);
        cluster.Propose(1);
        var late = default(Message);
        cluster.Drops = message => Keeps(message, ref late);
        cluster.Settle();
        cluster.Drops = static _ => false;
        Assert.Equal((MessageType.AppendResponse, 8ul), (late.Type, late.Entry.Index));

        cluster.Nodes[3].GoBackTo(copy);
        cluster[1].ReportConnected(3);
        cluster[1].Step(late);
        Assert.Equal(0ul, View(cluster, 3).Match);
        cluster.Settle();
        cluster[1].Step(late);
        cluster.Settle();
        Assert.Equal((8ul, 8ul), (cluster[3].Commit, View(cluster, 3).Match));
    }

    [Fact]
    public void ATransferUnderWaySucceedsWhenTheTargetHasCaughtUpAnew()
    {
        var (cluster, copy) = Acknowledged(mayLoseTail: true);
        cluster.Drops = static message => message.To == 3;
        cluster.Propose(1);
        cluster[1].TransferLeader(3);
        cluster.Settle();
        cluster.Drops = static _ => false;
        cluster.Nodes[3].GoBackTo(copy);
        cluster[1].ReportConnected(3);
        cluster.Settle();
        Assert.Equal(CoreRole.Leader, cluster[3].Role);
        Assert.Equal(9ul, cluster[1].Commit);
        Assert.Equal(cluster.Nodes[1].State, cluster.Nodes[3].State);
    }

    [Fact]
    public void ASnapshotIsSentWhereTheLogDoesNotReachBackThatFar()
    {
        var (cluster, copy) = Acknowledged(mayLoseTail: true);
        cluster.Nodes[1].Compact(1);
        cluster.Nodes[3].GoBackTo(copy);
        cluster[1].ReportConnected(3);
        cluster.Tick(3);
        Assert.Equal(cluster.Nodes[1].State, cluster.Nodes[3].State);
        Assert.Equal((PeerState.Replicate, 7ul), (View(cluster, 3).State, View(cluster, 3).Match));
    }

    /// <summary>All three have seven entries committed; with the third one's disk as of two.</summary>
    private static (TinyCluster Cluster, DiskCopy Copy) Acknowledged(bool mayLoseTail)
    {
        var cluster = TinyCluster.Led(3, options => options with { MayLoseTail = mayLoseTail });
        cluster.Propose(1);
        cluster.Settle();
        var copy = cluster.Nodes[3].CopyDisk();
        for (var i = 0; i < 5; i++)
        {
            cluster.Propose(1);
        }

        cluster.Settle();
        Assert.Equal((7ul, 7ul), (cluster[3].Commit, View(cluster, 3).Match));
        cluster.Sent.Clear();
        return (cluster, copy);
    }

    private static PeerView View(TinyCluster cluster, ulong peer) => cluster[1].Peers.Single(view => view.Id == peer);

    private static IEnumerable<ulong> EntriesSentTo(TinyCluster cluster, ulong peer) =>
        cluster.Sent.Where(message => message.To == peer)
            .SelectMany(static message => message.Entries.ToArray())
            .Select(static entry => entry.Id.Index);

    private static bool Keeps(Message message, ref Message late)
    {
        if (message is not { Type: MessageType.AppendResponse, From: 3 })
        {
            return false;
        }

        late = message;
        return true;
    }
}
