using KvNode.Raft.Core;
using Xunit;

namespace KvNode.Raft.Tests.Core.Units;

public sealed class ProgressTests
{
    [Fact]
    public void AProbeSendsOneMessageAndWaits()
    {
        var peer = New(next: 5);
        Assert.False(peer.IsPaused);
        peer.Sent(count: 3, bytes: 100, commit: 0);
        Assert.True(peer.IsPaused);
        Assert.Equal(5ul, peer.Next);
        peer.Release();
        Assert.False(peer.IsPaused);
    }

    [Fact]
    public void ReplicationMovesOnAtSendUntilTheWindowIsFull()
    {
        var peer = Replicating(match: 4);
        peer.Sent(3, 100, 0);
        Assert.Equal(8ul, peer.Next);
        Assert.False(peer.IsPaused);
        peer.Sent(1, 100, 0);
        Assert.True(peer.IsPaused);
        Assert.Equal(9ul, peer.Next);
        peer.Release();
        peer.Sent(0, 0, 0);
        Assert.True(peer.IsPaused);
        Assert.Equal(9ul, peer.Next);
    }

    [Theory]
    [InlineData(3, false, 4, 5)]
    [InlineData(4, false, 4, 5)]
    [InlineData(6, true, 6, 7)]
    public void AnAckMovesMatchForwardOnly(ulong index, bool isNews, ulong match, ulong next)
    {
        var peer = Replicating(match: 4);
        Assert.Equal(isNews, peer.TryAdvance(index));
        Assert.Equal((match, next), (peer.Match, peer.Next));
    }

    [Theory]
    [InlineData(8, 3, true, 4)]
    [InlineData(8, 8, true, 8)]
    [InlineData(8, 0, true, 3)]
    [InlineData(7, 3, false, 9)]
    [InlineData(9, 3, false, 9)]
    public void AProbeGoesBackToWhatTheRejectionHintsAtButNotBelowItsMatch(ulong rejected, ulong hint, bool isNews, ulong next)
    {
        var peer = New(next: 9);
        Assert.True(peer.TryAdvance(2));
        peer.Sent(1, 1, 0);
        Assert.Equal(isNews, peer.TryRetreat(rejected, hint));
        Assert.Equal(next, peer.Next);
        Assert.Equal(!isNews, peer.IsPaused);
    }

    [Theory]
    [InlineData(4, false, 8)]
    [InlineData(3, false, 8)]
    [InlineData(6, true, 5)]
    public void ReplicationStartsAgainFromItsMatch(ulong rejected, bool isNews, ulong next)
    {
        var peer = Replicating(match: 4);
        peer.Sent(3, 100, 0);
        Assert.Equal(isNews, peer.TryRetreat(rejected, hint: 1));
        Assert.Equal(next, peer.Next);
    }

    [Theory]
    [InlineData(0, 3)]
    [InlineData(9, 10)]
    [InlineData(1, 3)]
    public void AfterASnapshotTheProbeStartsBehindIt(ulong snapshot, ulong next)
    {
        var peer = New(next: 9);
        Assert.True(peer.TryAdvance(2));
        peer.BecomeSnapshot(leastIndex: 7);
        Assert.True(peer.IsPaused);
        Assert.Equal(7ul, peer.PendingSnapshot);
        peer.Release();
        Assert.True(peer.IsPaused);
        peer.BecomeProbe(snapshot);
        Assert.Equal((next, 0ul), (peer.Next, peer.PendingSnapshot));
        Assert.False(peer.IsPaused);
    }

    [Fact]
    public void ACommitIndexIsNewsUntilItWasSentAsFarAsThePeerCanFollow()
    {
        var peer = Replicating(match: 4);
        Assert.True(peer.IsCommitNews(3));
        peer.Sent(0, 0, commit: 3);
        Assert.False(peer.IsCommitNews(3));
        Assert.True(peer.IsCommitNews(4));
        peer.Sent(0, 0, commit: 4);
        Assert.False(peer.IsCommitNews(9));
        peer.Sent(2, 10, commit: 4);
        Assert.True(peer.IsCommitNews(9));
    }

    private static Progress New(ulong next) => new(2, next, inflightMessagesMax: 2, inflightBytesMax: 0);

    private static Progress Replicating(ulong match)
    {
        var peer = New(match + 1);
        _ = peer.TryAdvance(match);
        peer.BecomeReplicate();
        return peer;
    }
}
