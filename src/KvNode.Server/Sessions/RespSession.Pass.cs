using System.Text;
using KvNode.Server.Commands;
using KvNode.Server.Resp;
using KvNode.Storage;

namespace KvNode.Server.Sessions;

internal sealed partial class RespSession
{
    /// <summary>
    /// One pass over the received bytes: runs reads and local commands at once, and from the first write on adds to the
    /// proposer's batch, whose lock it then holds until the pass ends.
    /// </summary>
    private ref struct Pass(RespSession session, RespWriter reply)
    {
        private readonly RespSession _session = session;
        private readonly SessionServices _services = session._services;
        private readonly RespWriter _reply = reply;
        private StoreReadView? _view;
        private bool _adding;
        private int _commands;

        public Turn Run()
        {
            _reply.Reset();
            _reply.Protocol = _session.Protocol;
            while (true)
            {
                if (_session.Outstanding > Limits.OutstandingOperationsMax || _services.Proposer.Overloaded)
                {
                    return Turn.Full;
                }

                var status = _session._reader.TryRead(ref _session._received, out var args);
                if (status == ReadStatus.NeedMore)
                {
                    return Turn.NeedMore;
                }

                _commands++;
                var turn = status == ReadStatus.Command ? Dispatch(args) : Refuse(status);
                if (turn == Turn.Next && _reply.Length > Limits.ReplyChunkBytes)
                {
                    turn = SendChunk();
                }

                if (turn != Turn.Next)
                {
                    return turn;
                }
            }
        }

        /// <summary>Sends what was answered here and lets go of everything the pass held.</summary>
        public void End()
        {
            _view?.Dispose();
            _view = null;
            if (_adding)
            {
                _adding = false;
                _services.Proposer.EndTurn();
            }
            else
            {
                _session._output.Send(_reply.Written);
            }

            _reply.Reset();
            if (_commands > 0)
            {
                Interlocked.Add(ref _services.Stats.CommandsProcessed, _commands);
                _session.Info.Commands += _commands;
                _session.Info.LastActiveMs = Environment.TickCount64;
            }
        }

        private readonly bool Direct => !_adding && _session.Outstanding == 0;

        private Turn Dispatch(CommandArgs args)
        {
            var mark = _reply.Length;
            var spec = _services.Table.Admit(args, _reply, _services.RespLimits.ValueBytesMax);
            if (spec is null)
            {
                if (IsHttp(args[0]))
                {
                    // A web page can make a browser send a request here, its body full of commands. As Redis does, the
                    // connection ends before the body is read.
                    _session.CutOff("an HTTP request");
                    return Turn.Close;
                }

                if (Direct)
                {
                    Interlocked.Increment(ref _services.Stats.ErrorReplies);
                    return Turn.Next;
                }

                // The refusal may not overtake the replies that are due before it.
                _reply.Truncate(mark);
                return Defer(args);
            }

            _session.Info.LastCommand = spec.DisplayName;
            switch (spec)
            {
                case WriteCommand:
                    return Write(args, isLong: spec.Flags.HasFlag(CommandFlags.Slow));
                case ReadCommand read:
                    return Direct ? ReadNow(read, args) : Ride(args);
                case LocalCommand local when Direct:
                    return RunLocal(local, args);
                default:
                    return Defer(args);
            }
        }

        private static bool IsHttp(ReadOnlySpan<byte> name) =>
            Ascii.EqualsIgnoreCase(name, "POST"u8) || Ascii.EqualsIgnoreCase(name, "Host:"u8);

        private Turn Write(CommandArgs args, bool isLong)
        {
            BeginAdding();
            Interlocked.Increment(ref _session._outstanding);
            _services.Proposer.AddWrite(_session, args.Raw, isLong);
            return Turn.Next;
        }

        private void BeginAdding()
        {
            if (_adding)
            {
                return;
            }

            // What has been answered here goes out before the apply thread may answer what follows.
            _session._output.Send(_reply.Written);
            _reply.Reset();
            _view?.Dispose();
            _view = null;
            _services.Proposer.BeginTurn();
            _adding = true;
        }

        private Turn Ride(CommandArgs args)
        {
            BeginAdding();
            Interlocked.Increment(ref _session._outstanding);
            _services.Proposer.AddRead(_session, args.Raw);
            return Turn.Next;
        }

        private Turn ReadNow(ReadCommand command, CommandArgs args)
        {
            if (_view is null)
            {
                if (!_services.Engine.CanReadLocally(_session._readLevel))
                {
                    // It waits its turn until a leader has confirmed what is newest.
                    return Ride(args);
                }

                _view = _services.Store.OpenView();
            }

            _services.Executor.Read(command, args, _view, _reply);
            return Turn.Next;
        }

        private Turn RunLocal(LocalCommand command, CommandArgs args)
        {
            Interlocked.Increment(ref command.Stats.Calls);
            var cx = new LocalContext(args, _reply, _services.Node, _session);
            command.Run(ref cx);
            return _session._closeAfterReply ? Turn.Close : Turn.Next;
        }

        // Whatever answered, and be it an error: a few bytes can ask for thousands, and one pass may read a megabyte of them.
        private readonly Turn SendChunk()
        {
            _session._output.Send(_reply.Written);
            _reply.Reset();
            return _session._output.Behind ? Turn.Full
                : _session._output.Closed ? Turn.Close
                : Turn.Next;
        }

        // The command's bytes are copied: the buffer they lie in is gone by the time it runs.
        private readonly Turn Defer(CommandArgs args)
        {
            _session._deferred = args.Raw.ToArray();
            return Turn.Deferred;
        }

        private readonly Turn Refuse(ReadStatus status)
        {
            if (!Direct)
            {
                // The error waits its turn like any reply; the reader keeps it.
                _session._refused = status;
                return Turn.Deferred;
            }

            return _session.AnswerRefusal(status, _reply);
        }
    }
}
