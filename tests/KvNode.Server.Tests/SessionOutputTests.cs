using System.IO.Pipelines;
using System.Net.Sockets;
using KvNode.Server.Commands;
using KvNode.Server.Sessions;
using Xunit;

namespace KvNode.Server.Tests;

public sealed class SessionOutputTests
{
    private const int PauseBytes = 1024;

    private readonly Pipe _pipe = new(new PipeOptions(
        readerScheduler: PipeScheduler.Inline,
        writerScheduler: PipeScheduler.Inline,
        pauseWriterThreshold: PauseBytes,
        resumeWriterThreshold: PauseBytes / 2,
        useSynchronizationContext: false));

    [Fact]
    public void A_socket_failure_found_by_a_send_ends_only_that_connection()
    {
        var output = Output();
        _pipe.Reader.Complete(new SocketException((int)SocketError.TimedOut));

        output.Send("+OK\r\n"u8);

        Assert.True(output.Closed);
    }

    [Fact]
    public async Task A_socket_failure_while_the_client_is_behind_ends_only_that_connection()
    {
        var output = Output();
        output.Send(new byte[PauseBytes * 2]);
        Assert.True(output.Behind);
        var flushed = output.WhenFlushedAsync();

        _pipe.Reader.Complete(new SocketException((int)SocketError.TimedOut));

        await flushed;
        Assert.True(output.Closed);
        Assert.False(output.Behind);
    }

    private SessionOutput Output() => new(_pipe.Writer, new ServerStats(), bytesMax: 1 << 20, _ => { });
}
