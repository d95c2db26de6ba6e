using KvNode.Server.Commands;
using KvNode.Server.Resp;

namespace KvNode.Server.Sessions;

// Commands that could not run within a pass: they had to wait for outstanding operations, or they take long. While they
// run the session's loop waits and nothing is outstanding, so the output is theirs.
internal sealed partial class RespSession
{
    private ReadStatus? _refused;

    private async ValueTask RunDeferredAsync()
    {
        if (_refused is { } status)
        {
            _refused = null;
            var turn = AnswerRefusal(status, Reply);
            SendReply();
            _closeAfterReply |= turn == Turn.Close;
            return;
        }

        var raw = _deferred!;
        _deferred = null;
        if (RunNow(raw) is { } longRunning)
        {
            await RunLongAsync(longRunning, raw);
        }
    }

    // Runs the command if it is of the kind that answers at once; otherwise returns its row.
    private CommandSpec? RunNow(byte[] raw)
    {
        var reply = Reply;
        reply.Reset();
        reply.Protocol = Protocol;
        ArgRange[] ranges = [];
        var parsed = CommandReader.TryParse(raw, ref ranges, out var args, out _);
        Invariant.Check(parsed, "a command that was read parses again");
        var spec = _services.Table.Admit(args, reply, _services.RespLimits.ValueBytesMax);
        if (spec is null)
        {
            Interlocked.Increment(ref _services.Stats.ErrorReplies);
        }
        else if (spec is LocalCommand local)
        {
            Interlocked.Increment(ref local.Stats.Calls);
            var cx = new LocalContext(args, reply, _services.Node, this);
            local.Run(ref cx);
        }
        else
        {
            return spec;
        }

        SendReply();
        return null;
    }

    private async ValueTask RunLongAsync(CommandSpec spec, byte[] raw)
    {
        Interlocked.Increment(ref spec.Stats.Calls);
        using var reply = new RespWriter(Protocol);
        try
        {
            if (spec is AdminCommand admin)
            {
                await admin.Run(new AdminContext(CopyArguments(raw), reply, _services.Node));
            }
            else if (await _services.Engine.ReadBarrierAsync(_services.Options.ReadLevel) is { Ok: false } barrier)
            {
                RespError.NotExecuted(reply, barrier.Outcome);
            }
            else
            {
                await StreamAsync((StreamCommand)spec, raw, reply);
            }

            _output.Send(reply.Written);
        }
        catch (OperationCanceledException)
        {
            // The client went away, or was cut off, in the middle of its reply.
            _closeAfterReply = true;
        }
    }

    private async ValueTask StreamAsync(StreamCommand command, byte[] raw, RespWriter reply)
    {
        await _services.Streams.WaitAsync(_gone.Token);
        Streaming = true;
        try
        {
            using var view = _services.Store.OpenView();
            await command.Run(new StreamContext(
                CopyArguments(raw), view, reply, () => DrainAsync(reply), _gone.Token));
        }
        finally
        {
            Streaming = false;
            _services.Streams.Release();
        }
    }

    private async ValueTask DrainAsync(RespWriter reply)
    {
        _output.Send(reply.Written);
        reply.Reset();
        await _output.WhenFlushedAsync();
        if (_output.Closed)
        {
            throw new OperationCanceledException("the client is gone");
        }
    }

    private Turn AnswerRefusal(ReadStatus status, RespWriter reply)
    {
        Interlocked.Increment(ref _services.Stats.ErrorReplies);
        reply.Error(_reader.Error);

        // After a protocol error nobody knows where the next command begins.
        return status == ReadStatus.ProtocolError ? Turn.Close : Turn.Next;
    }

    private void SendReply()
    {
        _output.Send(Reply.Written);
        Reply.Reset();
    }

    private static byte[][] CopyArguments(byte[] raw)
    {
        ArgRange[] ranges = [];
        _ = CommandReader.TryParse(raw, ref ranges, out var args, out _);
        var copies = new byte[args.Count][];
        for (var i = 0; i < copies.Length; i++)
        {
            copies[i] = args[i].ToArray();
        }

        return copies;
    }
}
