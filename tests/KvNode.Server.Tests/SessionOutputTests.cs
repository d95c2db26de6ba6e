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
    public void Kept_replies_leave_when_they_are_released()
    {
        var output = Output();
        Assert.True(output.Hold(4));
        Assert.False(_pipe.Reader.TryRead(out _));

        output.Release("+1\r\n"u8);

        Assert.True(_pipe.Reader.TryRead(out var sent));
        Assert.Equal(4, sent.Buffer.Length);
        Assert.True(output.Hold(BytesMax));
    }

    [Fact]
    public void A_client_that_would_have_more_kept_than_it_may_is_cut_off()
    {
        var output = Output();
        Assert.True(output.Hold(BytesMax));
        Assert.False(output.Hold(1));
        Assert.True(output.Closed);
    }

    [Fact]
    public void What_is_kept_and_what_is_unsent_count_together()
    {
        var output = Output();
        output.Send(new byte[PauseBytes * 2]);
        Assert.True(output.Behind);
        Assert.True(output.Hold(BytesMax - (PauseBytes * 2)));
        Assert.False(output.Hold(1));
    }

    [Fact]
    public void A_reply_longer_than_a_client_may_have_unsent_is_not_even_handed_over()
    {
        var output = Output();
        output.Send(new byte[BytesMax + 1]);

        Assert.True(output.Closed);
        Assert.Equal(0, _pipe.Writer.UnflushedBytes);
        Assert.False(_pipe.Reader.TryRead(out _));
    }

    private SessionOutput Output() => new(_pipe.Writer, new ServerStats(), BytesMax, _ => { });
}
