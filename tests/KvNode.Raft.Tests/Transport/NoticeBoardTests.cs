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

    [Fact]
    public void APeerThatComesAndGoesIsSaidAtOnceUntilItIsTooOften()
    {
        // A restart, and another one soon after.
        Assert.True(Says(PeerNoticeKind.Connected, 2, "b:1", "", afterMs: 0));
        Assert.True(Says(PeerNoticeKind.Disconnected, 2, "b:1", "gone", afterMs: 100));
        Assert.True(Says(PeerNoticeKind.Connected, 2, "b:1", "", afterMs: 100));
        Assert.True(Says(PeerNoticeKind.Disconnected, 2, "b:1", "gone", afterMs: 100));
        for (var i = 0; i < 300; i++)
        {
            var kind = i % 2 == 0 ? PeerNoticeKind.Connected : PeerNoticeKind.Disconnected;
            Assert.False(Says(kind, 2, "b:1", "gone", afterMs: 20));
            _board.Tick();
        }

        // Others are not concerned.
        Assert.True(Says(PeerNoticeKind.Connected, 3, "c:1", "", afterMs: 0));
        Assert.False(Says(PeerNoticeKind.Connected, 2, "b:1", "", afterMs: 0));
        var before = _told.Count;
        _clock.Now += 10_000;
        _board.Tick();
        var said = Assert.Single(_told.Skip(before));
        Assert.Equal((PeerNoticeKind.Connected, 2ul, 300L), (said.Kind, said.Peer, said.Suppressed));

        // It goes on: once in each interval. Then it is quiet for one, and all is news again.
        Assert.False(Says(PeerNoticeKind.Disconnected, 2, "b:1", "gone", afterMs: 1000));
        _clock.Now += 9_000;
        _board.Tick();
        Assert.Equal(before + 2, _told.Count);
        Assert.Equal((PeerNoticeKind.Disconnected, 0L), (_told[^1].Kind, _told[^1].Suppressed));
        Assert.True(Says(PeerNoticeKind.Connected, 2, "b:1", "", afterMs: 10_000));
    }

    [Fact]
    public void StrangersShareOneLimitAndDoNotMakeRefusalsNewsAgain()
    {
        Assert.True(Says(PeerNoticeKind.Refused, 0, "[::1]:1000", "no proof"));
        var said = 0;
        for (var i = 0; i < 20_000; i++)
        {
            var before = _told.Count;
            _board.Post(new PeerNotice(PeerNoticeKind.Connected, 900 + (ulong)i, "s:1", "", 0) { IsStranger = true });
            said += _told.Count - before;
        }

        Assert.Equal(4, said);
        Assert.True(Says(PeerNoticeKind.Refused, 0, "[::1]:1001", "no proof"));
        _board.Post(new PeerNotice(PeerNoticeKind.Disconnected, 900, "s:1", "", 0) { IsStranger = true });
        Assert.False(Says(PeerNoticeKind.Refused, 0, "[::1]:1002", "no proof"));
        Assert.True(Says(PeerNoticeKind.Connected, 2, "b:1", "", afterMs: 0));
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
