using System.Threading.Channels;
using KvNode.Raft.Engine;
using KvNode.Raft.Tests.Core.Units;
using KvNode.Raft.Transport;
using Xunit;

namespace KvNode.Raft.Tests;

/// <summary>Which offered snapshots are taken, and how one that is refused is offered again.</summary>
public sealed class SnapshotTransfersTests : IAsyncDisposable
{
    private readonly TempDirectory _directory = new();
    private readonly TimersByHand _clock = new();
    private readonly Mailbox _mailbox = new();
    private readonly SnapshotTransfers _transfers;
    private int _offers;

    public SnapshotTransfersTests()
    {
        var links = new NoPeers
        {
            OnSnapshot = _ =>
            {
                _offers++;
                return SnapshotVerdict.Refused;
            },
        };
        _transfers = new SnapshotTransfers(
            _directory.Path, new FakeMachine(), _mailbox, null!, links, static _ => { }, static e => Assert.Fail(e.ToString()), _clock);
        _transfers.Attach(null!, new Lone().Core);
    }

    public async ValueTask DisposeAsync()
    {
        await _transfers.DisposeAsync();
        _directory.Dispose();
    }

    [Fact]
    public async Task ALeaderThatHangsInItsTransferMakesWayForItsSuccessorOnly()
    {
        var hanging = _transfers.Offer(1, Offer(id: 1, term: 5))!;
        Assert.Null(_transfers.Offer(2, Offer(id: 2, term: 4)));
        Assert.Null(_transfers.Offer(2, Offer(id: 2, term: 5)));
        Assert.False(hanging.Displaced.IsCancellationRequested);
        var next = _transfers.Offer(2, Offer(id: 2, term: 6));
        Assert.NotNull(next);
        Assert.True(hanging.Displaced.IsCancellationRequested);

        // What comes of it yet is not taken, and it leaves nothing.
        Assert.Equal(SnapshotVerdict.Refused, await hanging.CompleteAsync(default));
        await hanging.DisposeAsync();
        _ = Assert.Single(Directory.GetFiles(_directory.Path));
        Assert.Null(_transfers.Offer(1, Offer(id: 1, term: 5)));
    }

    [Fact]
    public async Task ATransferGoesOnOnlyUnderTheVeryOfferItBeganWith()
    {
        var offer = Offer(id: 1, term: 5);
        await BeginAsync(offer);
        var again = _transfers.Offer(1, offer with { Meta = "meta"u8.ToArray() })!;
        Assert.Equal(50, again.HaveBytes);
        await again.DisposeAsync();
        foreach (var other in new[]
        {
            offer with { SizeBytes = 10 },
            offer with { Position = new EntryId(1, 8) },
            offer with { Term = 6 },
            offer with { Meta = "mete"u8.ToArray() },
            offer with { Id = 2 },
        })
        {
            var anew = _transfers.Offer(1, other)!;
            Assert.Equal(0, anew.HaveBytes);
            await anew.DisposeAsync();
            await BeginAsync(offer);
        }

        // Nor from another node.
        Assert.Equal(0, _transfers.Offer(2, offer)!.HaveBytes);
    }

    [Fact]
    public void AnOfferThatNoLeaderCanMakeIsRefusedWhenItArrives()
    {
        Assert.Null(_transfers.Offer(1, Offer(id: 1, term: 5) with { Position = new EntryId(6, 9) }));
        Assert.NotNull(_transfers.Offer(1, Offer(id: 1, term: 5) with { Position = new EntryId(5, 9) }));
    }

    [Fact]
    public async Task AnOfferThatFindsNoFileDoesNotKeepTheNextOut()
    {
        await _transfers.Offer(1, Offer(id: 1, term: 5))!.DisposeAsync();
        Directory.Delete(_directory.Path, recursive: true);
        _ = Assert.ThrowsAny<IOException>(() => _transfers.Offer(1, Offer(id: 2, term: 5)));
        _ = Directory.CreateDirectory(_directory.Path);
        Assert.NotNull(_transfers.Offer(1, Offer(id: 3, term: 5)));
    }

    [Fact]
    public async Task ARefusedSenderWaitsLongerEachTimeBeforeItCopiesTheStateAgain()
    {
        _transfers.Send(2, 1);
        var waits = new List<int>();
        for (var offers = 1; offers <= 4; offers++)
        {
            // Once before it asks whether the same copy is still wanted, once before it asks for a new one.
            foreach (var _ in new[] { 1, 2 })
            {
                var timer = await _clock.NextAsync();
                waits.Add((int)timer.Due.TotalMilliseconds);
                Assert.Equal(offers, _offers);
                timer.Fire();
            }

            await TurnAsync();
            _transfers.Send(2, 1);
        }

        Assert.Equal([100, 200, 400, 800, 1600, 2000, 2000, 2000], waits);
    }

    [Fact]
    public async Task StoppingFreesWhatIsOnItsWayInBothDirections()
    {
        var writing = _transfers.Offer(1, Offer(id: 1, term: 5))!;
        _transfers.Send(2, 1);
        _ = await _clock.NextAsync();
        await _transfers.DisposeAsync();
        Assert.True(writing.Displaced.IsCancellationRequested);
        await writing.DisposeAsync();
        Assert.Empty(Directory.GetFiles(_directory.Path));
        Assert.Null(_transfers.Offer(1, Offer(id: 3, term: 9)));
    }

    private static SnapshotOffer Offer(int id, ulong term) =>
        new(new EntryId(1, 7), term, (UInt128)id, 100, "meta"u8.ToArray());

    /// <summary>Does what waits for the driver, once something does.</summary>
    private async Task TurnAsync()
    {
        while (!_mailbox.HasWork(wantsBatches: false))
        {
            await Task.Delay(1);
        }

        var events = new List<Event>();
        _mailbox.TakeEvents(ref events);
        foreach (var item in events)
        {
            ((Action)item.State!)();
        }
    }

    private async Task BeginAsync(SnapshotOffer offer)
    {
        var begun = _transfers.Offer(1, offer)!;
        await begun.WriteAsync(0, new byte[50], default);
        await begun.DisposeAsync();
    }

    /// <summary>Its timers fire when the test says so.</summary>
    private sealed class TimersByHand : TimeProvider
    {
        private readonly Channel<HandTimer> _timers = Channel.CreateUnbounded<HandTimer>();

        public Task<HandTimer> NextAsync() => _timers.Reader.ReadAsync().AsTask().WaitAsync(EngineHarness.Patience);

        public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
        {
            var timer = new HandTimer(() => callback(state), dueTime);
            Assert.True(_timers.Writer.TryWrite(timer));
            return timer;
        }
    }

    private sealed class HandTimer(Action fire, TimeSpan due) : ITimer
    {
        public TimeSpan Due => due;

        public void Fire() => fire();

        public bool Change(TimeSpan dueTime, TimeSpan period) => true;

        public void Dispose()
        {
        }

        public ValueTask DisposeAsync() => ValueTask.CompletedTask;
    }
}
