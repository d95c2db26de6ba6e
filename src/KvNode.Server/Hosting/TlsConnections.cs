using System.Buffers;
using System.IO.Pipelines;
using System.Net.Security;
using System.Security.Authentication;
using KvNode.Raft.Transport;
using KvNode.Server.Sessions;
using Microsoft.AspNetCore.Connections;

namespace KvNode.Server.Hosting;

/// <summary>TLS between the socket and whoever serves the connection, client or peer.</summary>
/// <remarks>Kestrel's own would do, but for its way out: sessions add replies while an earlier flush is under way, which only a
/// real pipe allows.</remarks>
/// <param name="peers">Says that a certificate was refused: only peers need one. Null: nobody is told.</param>
internal sealed class TlsConnections(TlsMaterial tls, ILogger log, IPeerAcceptor? peers)
{
    private static readonly PipeOptions OutputOptions = new(
        readerScheduler: PipeScheduler.Inline,
        writerScheduler: PipeScheduler.Inline,
        pauseWriterThreshold: Limits.TlsOutputBytesMax,
        resumeWriterThreshold: Limits.TlsOutputBytesMax / 2,
        useSynchronizationContext: false);

    private static readonly StreamPipeReaderOptions InputOptions = new(
        bufferSize: Limits.TlsPieceBytes, leaveOpen: true, useZeroByteReads: true);

    public async Task OnConnectedAsync(ConnectionContext connection, ConnectionDelegate next)
    {
        var plain = connection.Transport;
        await using var stream = new SslStream(new DuplexStream(plain));
        if (!await TryAuthenticateAsync(stream, connection))
        {
            return;
        }

        var output = new Pipe(OutputOptions);
        var input = PipeReader.Create(stream, InputOptions);
        connection.Transport = new Duplex(input, output.Writer);
        connection.Features.Set(new TlsState(stream.RemoteCertificate is not null));
        var pump = PumpAsync(output.Reader, stream);
        try
        {
            await next(connection);
        }
        finally
        {
            await output.Writer.CompleteAsync();
            await pump;
            await input.CompleteAsync();
            connection.Transport = plain;
        }
    }

    private async ValueTask<bool> TryAuthenticateAsync(SslStream stream, ConnectionContext connection)
    {
        using var time = new CancellationTokenSource(Limits.TlsHandshakeMilliseconds);
        using var stay = connection.Features.Get<Newcomers>()?.Enter(time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(time.Token, connection.ConnectionClosed);
        try
        {
            var options = tls.ServerOptions(reason => peers?.NoteRefused(connection.RemoteEndPoint, reason));
            await stream.AuthenticateAsServerAsync(options, either.Token);
            return true;
        }
        catch (Exception e) when (e is IOException or AuthenticationException or OperationCanceledException or InvalidOperationException)
        {
            if (stay is not { AskedToGo: true })
            {
                Log.TlsRefused(log, connection.RemoteEndPoint?.ToString() ?? "?", e.Message);
            }

            return false;
        }
    }

    /// <summary>Encrypts what is written to the pipe. Ends with the pipe, or with the connection, and then the pipe's writer
    /// learns it.</summary>
    private static async Task PumpAsync(PipeReader output, SslStream stream)
    {
        var piece = ArrayPool<byte>.Shared.Rent(Limits.TlsPieceBytes);
        try
        {
            while (true)
            {
                var result = await output.ReadAsync();
                var (bytes, end) = (result.Buffer, result.Buffer.End);
                while (!bytes.IsEmpty)
                {
                    var now = bytes.Slice(0, Math.Min(bytes.Length, Limits.TlsPieceBytes));
                    now.CopyTo(piece);
                    await stream.WriteAsync(piece.AsMemory(0, (int)now.Length));
                    bytes = bytes.Slice(now.End);
                }

                output.AdvanceTo(end);
                if (result.IsCompleted)
                {
                    await stream.ShutdownAsync();
                    break;
                }
            }
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException or InvalidOperationException or OperationCanceledException)
        {
            // The other end has gone; whoever reads from it finds out too.
        }
        finally
        {
            await output.CompleteAsync();
            ArrayPool<byte>.Shared.Return(piece);
        }
    }

    private sealed record Duplex(PipeReader Input, PipeWriter Output) : IDuplexPipe;

    /// <summary>Both directions of a connection as one stream, for the one that encrypts.</summary>
    private sealed class DuplexStream(IDuplexPipe pipe) : Stream
    {
        private readonly Stream _input = pipe.Input.AsStream(leaveOpen: true);
        private readonly Stream _output = pipe.Output.AsStream(leaveOpen: true);

        public override bool CanRead => true;

        public override bool CanWrite => true;

        public override bool CanSeek => false;

        public override long Length => throw new NotSupportedException();

        public override long Position
        {
            get => throw new NotSupportedException();
            set => throw new NotSupportedException();
        }

        public override ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default) =>
            _input.ReadAsync(buffer, cancellationToken);

        public override ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default) =>
            _output.WriteAsync(buffer, cancellationToken);

        public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
            ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

        public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
            WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

        public override Task FlushAsync(CancellationToken cancellationToken) => _output.FlushAsync(cancellationToken);

        public override void Flush() => throw new NotSupportedException();

        public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();
    }
}
