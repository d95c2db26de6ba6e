using System.IO.Pipelines;
using System.Net;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Http.Features;

namespace KvNode.Server.Hosting;

/// <summary>
/// Keeps the number of open sockets bounded, whoever connects how fast: a connection is accepted only while fewer than the
/// limit are open; the others wait in the kernel's backlog.
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
        private readonly CancellationTokenSource _unbound = new();

        public EndPoint EndPoint => inner.EndPoint;

        public async ValueTask<ConnectionContext?> AcceptAsync(CancellationToken cancellationToken = default)
        {
            try
            {
                await _room.WaitAsync(_unbound.Token);
            }
            catch (OperationCanceledException)
            {
                return null;
            }

            var connection = await inner.AcceptAsync(cancellationToken);
            return connection is null ? null : new GatedConnection(connection, _room);
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
            await inner.DisposeAsync();
            await base.DisposeAsync();
            _ = room.Release();
        }
    }
}
