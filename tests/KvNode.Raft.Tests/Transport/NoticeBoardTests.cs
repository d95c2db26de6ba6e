using KvNode.Raft.Transport;
using Xunit;

namespace KvNode.Raft.Tests.Transport;

public sealed class NoticeBoardTests
{
    private readonly List<PeerNotice> _told = [];
    private readonly HandClock _clock = new();
    private readonly NoticeBoard _board;

    public NoticeBoardTests() => _board = new NoticeBoard(_told.Add, _clock);

    [Theory]
    [InlineData(PeerNoticeKind.CallRefused)]
    [InlineData(PeerNoticeKind.Unreachable)]
    public void ACallInVainIsSaidOnceUntilReasonOrAddressChangesOrThereWasAConnection(PeerNoticeKind kind)
    {
        Assert.True(Says(kind, 2, "b:1", "another cluster"));
        Assert.False(Says(kind, 2, "b:1", "another cluster"));
        Assert.True(Says(kind, 3, "c:1", "another cluster"));
        Assert.Equal(1, _told[^1].Suppressed);
        Assert.False(Says(kind, 2, "b:1", "another cluster"));
        Assert.True(Says(kind, 2, "b:1", "no proof"));
        Assert.True(Says(kind, 2, "b:1", "another cluster"));
        Assert.True(Says(kind, 2, "b:2", "another cluster"));
        Assert.True(Says(PeerNoticeKind.Connected, 3, "c:1", ""));
        Assert.False(Says(kind, 2, "b:2", "another cluster"));
        Assert.True(Says(PeerNoticeKind.Connected, 2, "b:2", ""));
        Assert.True(Says(kind, 2, "b:2", "another cluster"));
    }

    [Fact]
    public void ARefusedCallerIsKnownByItsHostForItsPortIsAnotherOneEachTime()
    {
        Assert.True(Says(PeerNoticeKind.Refused, 0, "[::1]:1000", "no proof"));
        Assert.False(Says(PeerNoticeKind.Refused, 0, "[::1]:1001", "no proof"));
        Assert.True(Says(PeerNoticeKind.Refused, 0, "[::2]:1000", "no proof"));
        Assert.True(Says(PeerNoticeKind.Refused, 0, "[::1]:1002", "not a peer"));
        Assert.False(Says(PeerNoticeKind.Refused, 0, "[::1]:1003", "no proof"));
        Assert.True(Says(PeerNoticeKind.Connected, 2, "b:1", ""));
        Assert.True(Says(PeerNoticeKind.Refused, 0, "[::1]:1004", "no proof"));
    }

    [Fact]
    public void WhatIsLeftOutForItsHasteIsNotTakenForSaid()
    {
        Assert.True(Says(PeerNoticeKind.CallRefused, 2, "b:1", "no proof"));
        Assert.False(Says(PeerNoticeKind.CallRefused, 3, "c:1", "no proof", afterMs: 10));
        Assert.True(Says(PeerNoticeKind.CallRefused, 3, "c:1", "no proof"));
    }

    [Fact]
    public void CallersBeyondTheBoundAreForgottenAndNotKept()
    {
        for (var i = 0; i < 1000; i++)
        {
            Assert.True(Says(PeerNoticeKind.Refused, 0, $"h{i}:1", "no proof"));
        }

        Assert.True(Says(PeerNoticeKind.Refused, 0, "h0:1", "no proof"));
        Assert.False(Says(PeerNoticeKind.Refused, 0, "h0:1", "no proof"));
    }

    private bool Says(PeerNoticeKind kind, ulong peer, string address, string detail, int afterMs = 2000)
    {
        _clock.Now += afterMs;
        var before = _told.Count;
        _board.Post(new PeerNotice(kind, peer, address, detail, 0));
        return _told.Count > before;
    }

    private sealed class HandClock : TimeProvider
    {
        public long Now { get; set; }

        public override long TimestampFrequency => 1000;

        public override long GetTimestamp() => Now;
    }
}
