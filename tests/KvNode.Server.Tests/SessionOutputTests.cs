using System.IO.Pipelines;
using System.Net.Sockets;
using KvNode.Server.Commands;
using KvNode.Server.Sessions;
using Xunit;

namespace KvNode.Server.Tests;

public sealed class SessionOutputTests
{
    private const int PauseBytes = 1024;
    private const int BytesMax = 1 << 20;

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

    [Fact]
    public void Held_replies_leave_with_the_next_send_even_an_empty_one()
    {
        var output = Output();
        Assert.True(output.Hold("+1\r\n"u8));
        Assert.True(output.Hold(new byte[PauseBytes * 2]));
        Assert.False(_pipe.Reader.TryRead(out _));

        output.Send([]);

        Assert.True(_pipe.Reader.TryRead(out var sent));
        Assert.Equal(4 + PauseBytes * 2, sent.Buffer.Length);
    }

    [Fact]
    public async Task A_flush_that_ends_while_replies_are_held_does_not_let_them_out()
    {
        var output = Output();
        output.Send(new byte[PauseBytes * 2]);
        Assert.True(output.Hold("+1\r\n"u8));
        var first = await _pipe.Reader.ReadAsync(TestContext.Current.CancellationToken);
        _pipe.Reader.AdvanceTo(first.Buffer.End);
        Assert.False(_pipe.Reader.TryRead(out _));

        output.Send("+2\r\n"u8);

        Assert.True(_pipe.Reader.TryRead(out var sent));
        Assert.Equal(8, sent.Buffer.Length);
    }

    [Fact]
    public void A_client_that_would_hold_more_than_it_may_is_cut_off()
    {
        var output = Output();
        Assert.True(output.Hold(new byte[BytesMax]));
        Assert.False(output.Hold(new byte[1]));
        Assert.True(output.Closed);
    }

    private SessionOutput Output() => new(_pipe.Writer, new ServerStats(), BytesMax, _ => { });
}
