using System.IO.Pipelines;
using System.Net;
using KvNode.Server.Sessions;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http.Features;

namespace KvNode.Server.Hosting;

/// <summary>
/// Keeps the number of open sockets bounded, whoever connects how fast: a connection is accepted only while fewer than the
/// limit are open; the others wait in the kernel's backlog. Not for long: as room runs short, whoever has been mute for
/// longest has to go, so that accepting never stops and another node gets in whatever else connects.
/// </summary>
/// <remarks>
/// A limit on clients alone is not enough: Kestrel accepts faster than connections over the limit are told so and closed,
/// and a burst of them takes every file descriptor. Without descriptors accepting fails, files cannot be opened, and the
/// .NET runtime ends the process.
/// </remarks>
internal sealed class AcceptGate(IConnectionListenerFactory inner, int openMax) : IConnectionListenerFactory
{
    public async ValueTask<IConnectionListener> BindAsync(EndPoint endpoint, CancellationToken cancellationToken = default) =>
        new Gated(await inner.BindAsync(endpoint, cancellationToken), openMax);

    private sealed class Gated(IConnectionListener inner, int openMax) : IConnectionListener
    {
        private readonly SemaphoreSlim _room = new(openMax, openMax);
        private readonly Newcomers _newcomers = new();
        private readonly CancellationTokenSource _unbound = new();

        public EndPoint EndPoint => inner.EndPoint;

        public async ValueTask<ConnectionContext?> AcceptAsync(CancellationToken cancellationToken = default)
        {
            try
            {
                await TakeRoomAsync();
            }
            catch (OperationCanceledException)
            {
                return null;
            }

            var connection = await inner.AcceptAsync(cancellationToken);
            if (connection is null)
            {
                return null;
            }

            connection.Features.Set(_newcomers);
            return new GatedConnection(connection, _room);
        }

        public async ValueTask UnbindAsync(CancellationToken cancellationToken = default)
        {
            await _unbound.CancelAsync();
            await inner.UnbindAsync(cancellationToken);
        }

        public async ValueTask DisposeAsync()
        {
            await _unbound.CancelAsync();
            await inner.DisposeAsync();
        }

        // A little ahead of need: those asked to go take a moment to be gone.
        private async ValueTask TakeRoomAsync()
        {
            if (_room.CurrentCount < Limits.AcceptRoomMin)
            {
                _newcomers.AskOldestToGo();
            }

            while (!await _room.WaitAsync(Limits.AcceptPauseMilliseconds, _unbound.Token))
            {
                _newcomers.AskOldestToGo();
            }
        }
    }

    /// <summary>The connection itself, but for its end, which makes room for another.</summary>
    private sealed class GatedConnection(ConnectionContext inner, SemaphoreSlim room) : ConnectionContext
    {
        public override string ConnectionId
        {
            get => inner.ConnectionId;
            set => inner.ConnectionId = value;
        }

        public override IFeatureCollection Features => inner.Features;

        public override IDictionary<object, object?> Items
        {
            get => inner.Items;
            set => inner.Items = value;
        }

        public override IDuplexPipe Transport
        {
            get => inner.Transport;
            set => inner.Transport = value;
        }

        public override CancellationToken ConnectionClosed
        {
            get => inner.ConnectionClosed;
            set => inner.ConnectionClosed = value;
        }

        public override EndPoint? LocalEndPoint
        {
            get => inner.LocalEndPoint;
            set => inner.LocalEndPoint = value;
        }

        public override EndPoint? RemoteEndPoint
        {
            get => inner.RemoteEndPoint;
            set => inner.RemoteEndPoint = value;
        }

        public override void Abort(ConnectionAbortedException abortReason) => inner.Abort(abortReason);

        /// <summary>Kestrel disposes each connection once; the socket is closed when it is done.</summary>
        public override async ValueTask DisposeAsync()
        {
            try
            {
                await inner.DisposeAsync();
                await base.DisposeAsync();
            }
            finally
            {
                _ = room.Release();
            }
        }
    }
}
