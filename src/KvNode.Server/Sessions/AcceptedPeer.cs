using System.Buffers;
using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using KvNode.Raft.Transport;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Connections.Features;

namespace KvNode.Server.Sessions;

/// <summary>
/// An accepted connection as the transport between nodes sees it. It is read through the listener's pipe, which is reading
/// already; what goes out is sent on the socket itself, past the pipe: one copy less, and the sender's thread learns at once
/// what the socket takes. Inside TLS both ways lead through the pipe.
/// </summary>
internal sealed class AcceptedPeer : PeerChannel
{
    /// <summary>Inside TLS: copied into the pipe at a time.</summary>
    private const int PieceBytes = 64 * 1024;

    private readonly ConnectionContext _connection;
    private readonly Socket? _socket;

    public AcceptedPeer(ConnectionContext connection)
    {
        _connection = connection;
        var tls = connection.Features.Get<TlsState>();
        IsCertified = tls is { IsCertified: true };
        _socket = tls is null ? connection.Features.Get<IConnectionSocketFeature>()?.Socket : null;
        if (_socket is not null)
        {
            // What is under way in the pipe does not mind: it waits for readiness either way.
            _socket.Blocking = false;
        }
    }

    public override EndPoint? Remote => _connection.RemoteEndPoint;

    public override bool IsCertified { get; }

    public override int TrySend(ReadOnlySpan<byte> bytes)
    {
        if (_socket is null)
        {
            return 0;
        }

        try
        {
            return TrySend(_socket, bytes);
        }
        catch (ObjectDisposedException e)
        {
            throw Broken(e);
        }
    }

    public override async ValueTask SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellation)
    {
        try
        {
            while (!bytes.IsEmpty)
            {
                bytes = bytes[await SendPieceAsync(bytes, cancellation)..];
            }
        }
        catch (Exception e) when (IsEnd(e, cancellation))
        {
            throw Broken(e);
        }
    }

    [AsyncMethodBuilder(typeof(PoolingAsyncValueTaskMethodBuilder<>))]
    public override async ValueTask<int> ReceiveAsync(Memory<byte> buffer, CancellationToken cancellation)
    {
        try
        {
            var input = _connection.Transport.Input;
            while (true)
            {
                var result = await input.ReadAsync(cancellation);
                var taken = result.Buffer.Slice(0, Math.Min(result.Buffer.Length, buffer.Length));
                var bytes = (int)taken.Length;
                taken.CopyTo(buffer.Span);

                // From here on the pipe has its memory back: nothing of the sequence may be asked any more.
                input.AdvanceTo(taken.End);
                if (bytes > 0 || result.IsCompleted)
                {
                    return bytes;
                }
            }
        }
        catch (Exception e) when (IsEnd(e, cancellation))
        {
            throw Broken(e);
        }
    }

    public override void Close() => _connection.Abort(new ConnectionAbortedException("closed"));

    // An aborted connection is a cancelled operation to Kestrel.
    private static bool IsEnd(Exception exception, CancellationToken cancellation) =>
        exception is SocketException or ObjectDisposedException or InvalidOperationException
        || (exception is OperationCanceledException && !cancellation.IsCancellationRequested);

    private static IOException Broken(Exception cause) => new(cause.Message, cause);

    private async ValueTask<int> SendPieceAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellation)
    {
        if (_socket is not null)
        {
            return await _socket.SendAsync(bytes, SocketFlags.None, cancellation);
        }

        var piece = bytes[..Math.Min(bytes.Length, PieceBytes)];
        var result = await _connection.Transport.Output.WriteAsync(piece, cancellation);
        return result.IsCompleted ? throw new IOException("the connection was closed") : piece.Length;
    }
}

/// <summary>A feature of connections that are inside TLS.</summary>
/// <param name="IsCertified">The other end has shown a certificate that the cluster's authority signed.</param>
internal sealed record TlsState(bool IsCertified);
