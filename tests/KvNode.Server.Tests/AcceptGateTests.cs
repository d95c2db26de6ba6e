using System.Net;
using KvNode.Server.Hosting;
using KvNode.Server.Sessions;
using Microsoft.AspNetCore.Connections;
using Xunit;

namespace KvNode.Server.Tests;

public sealed class AcceptGateTests : IAsyncDisposable
{
    private const int OpenMax = Limits.ConnectionsBesideClients;

    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private readonly CancellationTokenSource _over = new();

    public async ValueTask DisposeAsync()
    {
        await _over.CancelAsync();
        _over.Dispose();
    }

    [Fact]
    public async Task AcceptingNeverStopsForMuteConnections()
    {
        await using var gate = await BindAsync();
        var gone = new List<Task>();
        for (var i = 0; i < 10 * OpenMax; i++)
        {
            gone.Add(StayMuteAsync(await AcceptAsync(gate)));
        }

        // Who came first had to go first, and those there is room for may stay.
        await Task.WhenAll(gone.Take(9 * OpenMax)).WaitAsync(Patience);
        Assert.False(gone[^1].IsCompleted);
    }

    [Fact]
    public async Task NobodyIsAskedToGoWhileThereIsRoom()
    {
        await using var gate = await BindAsync();
        var stays = new List<Newcomers.Stay>();
        for (var i = 0; i < OpenMax - Limits.AcceptRoomMin; i++)
        {
            stays.Add(Newcomers(await AcceptAsync(gate)).Enter(_over));
        }

        Assert.DoesNotContain(stays, static stay => stay.AskedToGo);
    }

    [Fact]
    public async Task WhoHasSaidWhoItIsStaysAndOthersWaitForRoom()
    {
        await using var gate = await BindAsync();
        var open = new List<ConnectionContext>();
        for (var i = 0; i < OpenMax; i++)
        {
            open.Add(await AcceptAsync(gate));
            using var time = new CancellationTokenSource();
            using var stay = Newcomers(open[i]).Enter(time);
        }

        var next = gate.AcceptAsync().AsTask();
        Assert.False(next.IsCompleted);
        await open[0].DisposeAsync();
        Assert.NotNull(await next.WaitAsync(Patience));
    }

    private static async Task<IConnectionListener> BindAsync() =>
        await new AcceptGate(new Crowd(), OpenMax).BindAsync(new IPEndPoint(IPAddress.Loopback, 0));

    private static async Task<ConnectionContext> AcceptAsync(IConnectionListener gate)
    {
        var connection = await gate.AcceptAsync().AsTask().WaitAsync(Patience);
        return connection!;
    }

    private static Newcomers Newcomers(ConnectionContext connection) => connection.Features.Get<Newcomers>()!;

    private async Task StayMuteAsync(ConnectionContext connection)
    {
        using var time = CancellationTokenSource.CreateLinkedTokenSource(_over.Token);
        using (Newcomers(connection).Enter(time))
        {
            await Task.Delay(Timeout.Infinite, time.Token).ContinueWith(static _ => { }, TaskScheduler.Default);
        }

        await connection.DisposeAsync();
    }

    /// <summary>There is always somebody more at the door.</summary>
    private sealed class Crowd : IConnectionListenerFactory, IConnectionListener
    {
        public EndPoint EndPoint { get; } = new IPEndPoint(IPAddress.Loopback, 1);

        public ValueTask<IConnectionListener> BindAsync(EndPoint endpoint, CancellationToken cancellationToken = default) =>
            new(this);

        public ValueTask<ConnectionContext?> AcceptAsync(CancellationToken cancellationToken = default) =>
            new(new DefaultConnectionContext());

        public ValueTask UnbindAsync(CancellationToken cancellationToken = default) => default;

        public ValueTask DisposeAsync() => default;
    }
}
